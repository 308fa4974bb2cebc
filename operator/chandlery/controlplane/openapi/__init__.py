"""OpenAPI v3 documents for built-in kinds and custom resources."""

from __future__ import annotations
