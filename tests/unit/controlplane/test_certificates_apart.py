"""Certificates are made by a child process, so that the server doesn't carry the package that makes them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, os, sys
from pathlib import Path
from chandlery.controlplane import tls
folder, hosts = Path(sys.argv[1]), ("127.0.0.1", "localhost")
wait = tls.prepare_apart(folder, hosts)
found = wait()
before = found.server_cert.read_text()
again = tls.prepare_apart(folder, hosts)()
print(json.dumps({
    "package": any(name.partition(".")[0] == "cryptography" for name in sys.modules),
    "same": again == found and again.server_cert.read_text() == before,
    "private": oct(found.server_key.stat().st_mode & 0o777),
}))
"""


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    # in a process of its own, as a control plane is: pytest has threads, and a process with threads isn't forked
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_package_that_makes_them_stays_out(tmp_path: Path) -> None:
    done = run(tmp_path / "pki")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"package": False, "same": True, "private": "0o600"}


def test_what_goes_wrong_in_the_child_is_told_by_the_parent(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("a file, where the folder should be")
    done = run(tmp_path / "pki")
    assert done.returncode != 0
    assert "FileExistsError" in done.stderr or "NotADirectoryError" in done.stderr
