"""What is said, and how it is known, when an engine's program can't be run, or not on the data that are there."""

from __future__ import annotations

import re

MEND_ENGINE = "Run `chandlery engines verify`; it says which engine is missing or damaged and how to mend it."
NO_ROOM = re.compile("No space left on device|Disk quota exceeded")
"""What every program says of a full disk, and of a file system that lets its user have no more."""
NOT_STARTED = (126, 127)
"""Exit codes of who was to become another program and couldn't: a shell, `unshare`."""
FOREIGN = re.compile(
    r"Can't handle RDB format version \d+|Wrong signature trying to load DB from file"  # Valkey, Redis
    r"|Bad file format reading the append only file [^:\n]*"
    r"|Unsupported redo log format\.[^\n]*"  # MariaDB
    r"|The data(base cluster| directory) was initialized (by|with) [^\n]*"  # PostgreSQL
    r"|Unsupported qcow2 feature\(s\)[^\n]*"  # QEMU
)
"""What engines say of data that another version of theirs wrote."""
