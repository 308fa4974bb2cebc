#!/usr/bin/env python3
"""Start a fresh control plane as the corpus needs it, replay the recordings against it, stop it.

usage: run.py [--only GLOB] [--show N] [--json OUT] [--jobs N] [--store memory|sqlite] [--keep]

See README.md for what the columns mean. `--keep` leaves the data directory behind.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ADMIN, USER = "admin-token-of-this-replay", "user-token-of-this-replay"
READY_SECONDS = 30.0


def start(folder: Path, store: str) -> tuple[subprocess.Popen[bytes], Path]:
    """A fresh server with the users that the recordings know; the process and the kubeconfig for the replay."""
    tokens = folder / "tokens.csv"
    tokens.write_text(f"{ADMIN},admin,admin-uid,system:masters\n{USER},fid-user,fid-user-uid,fid-devs\n")
    tokens.chmod(0o600)
    data = folder / "data"
    argv = [sys.executable, "-m", "chandlery.controlplane", "--data-dir", str(data), "--store", store]
    argv += ["--token-auth-file", str(tokens), "--service-cluster-ip-range", "10.0.0.0/24"]
    argv += ["--service-account-issuer", "https://kubernetes.default.svc"]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    deadline = time.monotonic() + READY_SECONDS
    line = process.stdout.readline()
    if not line.startswith(b"ready") or time.monotonic() > deadline:
        process.kill()
        raise SystemExit(f"the control plane did not start:\n{(folder / 'log').read_text()}")
    config = json.loads((data / "kubeconfig").read_text())
    config["users"] = [
        {"name": "admin", "user": {"token": ADMIN}},
        {"name": "fid-user", "user": {"token": USER}},
    ]
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return process, path


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def replay(kubeconfig: Path, arguments: list[str]) -> int:
    argv = [sys.executable, str(HERE / "replay.py"), "--kubeconfig", str(kubeconfig), *arguments, str(HERE / "corpus")]
    return subprocess.run(argv, check=False).returncode


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--store", default="memory")
    flags.add_argument("--keep", action="store_true")
    known, rest = flags.parse_known_args()
    folder = Path(tempfile.mkdtemp(prefix="chandlery-fidelity-"))
    try:
        process, kubeconfig = start(folder, known.store)
        try:
            return replay(kubeconfig, rest)
        finally:
            stop(process)
            log = (folder / "log").read_text()
            if "Traceback" in log:
                print(log[-6000:], file=sys.stderr)
    finally:
        if known.keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
