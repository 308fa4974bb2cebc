"""Request bodies in and YAML out: strict JSON and YAML decoding, Kubernetes protobuf, patches."""

from __future__ import annotations

from chandlery.controlplane.codec.body import decode_body, decode_patch, encode_yaml

__all__ = ["decode_body", "decode_patch", "encode_yaml"]
