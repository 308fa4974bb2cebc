"""A real kube-apiserver and etcd for tests, started by `chandlery controlplane --binaries` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from chandlery.controlplane.settings import ControlPlaneSettings

START_SECONDS = 150.0
STOP_SECONDS = 60.0


class RealServers:
    """Both servers of a folder, with what they have in common with the embedded control plane's settings."""

    def __init__(self, settings: ControlPlaneSettings, folder: Path) -> None:
        self.settings = settings
        self.url = ""
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def _argv(self) -> list[str]:
        settings = self.settings
        argv = [sys.executable, "-m", "chandlery.controlplane", f"--data-dir={settings.data_dir}"]
        argv += [f"--binaries={self._folder}", f"--bind-address={settings.host}", f"--port={settings.port}"]
        argv += [f"--service-cluster-ip-range={settings.service_cluster_ip_range}"]
        argv += [f"--service-account-issuer={settings.service_account_issuer}"]
        argv += [f"--anonymous-auth={'true' if settings.anonymous_auth else 'false'}"]
        argv += [f"--kubeconfig={settings.kubeconfig_path}"]
        argv += [f"--tls-min-version={settings.tls_min_version}", f"--event-ttl={settings.event_ttl:.0f}s"]
        if settings.client_ca_file is not None:
            argv += [f"--client-ca-file={settings.client_ca_file}"]
        if settings.token_auth_file is not None:
            argv += [f"--token-auth-file={settings.token_auth_file}"]
        return argv

    def start(self) -> None:
        """Raises RuntimeError that says what kept them from starting."""
        self.settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = self.settings.data_dir / "servers.log"
        with log.open("w") as stream:
            process = self._process = subprocess.Popen(
                self._argv(), stdout=subprocess.PIPE, stderr=stream, text=True, env=dict(os.environ)
            )
        assert process.stdout is not None
        late = threading.Timer(START_SECONDS, process.kill)
        late.start()
        try:
            line = process.stdout.readline()
        finally:
            late.cancel()
        if not line.startswith("ready: "):
            self.stop()
            raise RuntimeError(f"the servers of {self._folder} did not start: {log.read_text().strip()}")
        self.url = line.split()[1]

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
