"""Who owns which field: FieldsV1 sets, managedFields for every writer, server-side apply."""

from __future__ import annotations

from chandlery.controlplane.fields.manager import apply, default_manager, on_write

__all__ = ["apply", "default_manager", "on_write"]
