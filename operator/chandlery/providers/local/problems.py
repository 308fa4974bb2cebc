"""What is said, and how it is known, when an engine's program can't be run at all."""

from __future__ import annotations

MEND_ENGINE = "Run `chandlery engines verify`; it says which engine is missing or damaged and how to mend it."
NO_ROOM = "No space left on device"
"""What every program says of a full disk."""
NOT_STARTED = (126, 127)
"""Exit codes of who was to become another program and couldn't: a shell, `unshare`."""
