"""SCRAM-SHA-256 verifiers, so that no password ever stands in a statement that the server might log.

Source: RFC 5803 (the format), RFC 7677 (the mechanism); PostgreSQL stores `SCRAM-SHA-256$<iterations>:<salt>$<stored
key>:<server key>`. Passwords are generated from letters and digits, or ASCII by contract, so SASLprep changes nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re

ITERATIONS = 4096
_FORM = re.compile(r"^SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$")


def verifier(password: str, *, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """What PostgreSQL stores for this password."""
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client_key).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    b64 = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{b64[0]}${b64[1]}:{b64[2]}"


def matches(password: str, stored: str | None) -> bool:
    """Whether a stored verifier is this password's."""
    found = _FORM.match(stored or "")
    if found is None:
        return False
    again = verifier(password, salt=base64.b64decode(found[2]), iterations=int(found[1]))
    return hmac.compare_digest(again, stored or "")
