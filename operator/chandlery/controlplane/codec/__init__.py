"""Request bodies in and YAML out: strict JSON and YAML decoding, Kubernetes protobuf, patches."""

from __future__ import annotations

from chandlery.controlplane.codec.body import decode_body, decode_patch, encode_yaml, read_patch, warning_texts
from chandlery.controlplane.codec.gojson import in_document_order

__all__ = ["decode_body", "decode_patch", "encode_yaml", "in_document_order", "read_patch", "warning_texts"]
