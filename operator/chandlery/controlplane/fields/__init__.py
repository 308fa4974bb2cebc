"""Who owns which field: FieldsV1 sets, managedFields for every writer, server-side apply."""

from __future__ import annotations

from chandlery.controlplane.fields.manager import default_manager, empty_object, keep_managed_fields, on_write
from chandlery.controlplane.fields.serverside import apply, apply_scale, object_text

__all__ = ["apply", "apply_scale", "default_manager", "empty_object", "keep_managed_fields", "object_text", "on_write"]
