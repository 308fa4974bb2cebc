"""`chandlery up` starts its processes before it loads what only they need."""

from __future__ import annotations

import subprocess
import sys

WANTED = (
    "import chandlery.app.cli, chandlery.app.up, chandlery.app.keeping, chandlery.providers.local.files, "
    "chandlery.reconcile.client"
)


def test_no_models_are_loaded() -> None:
    code = f"import sys; {WANTED}; print([n for n in ('pydantic', 'kopf', 'psutil', 'rich') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_names_of_the_local_room_are_found_when_asked_for() -> None:
    import chandlery.providers.local as room

    for name in room.__all__:
        assert getattr(room, name).__name__ == name
    assert not hasattr(room, "nothing")
