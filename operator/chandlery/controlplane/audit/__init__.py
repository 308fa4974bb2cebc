"""The audit log: who changed what, when, and what was decided."""

from chandlery.controlplane.audit.log import AuditLog

__all__ = ["AuditLog"]
