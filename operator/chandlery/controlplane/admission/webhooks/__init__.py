"""Admission webhooks: which are asked, what they are told, and what their answers mean."""

from chandlery.controlplane.admission.webhooks.dispatch import Webhooks

__all__ = ["Webhooks"]
