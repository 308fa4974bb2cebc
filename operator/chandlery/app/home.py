"""Where Chandlery keeps its things on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DATA_DIR_VARIABLE = "CHANDLERY_DATA_DIR"


def default_data_dir() -> Path:
    """CHANDLERY_DATA_DIR; else /var/lib/chandlery for root and the XDG data directory for everybody else."""
    named = os.environ.get(DATA_DIR_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/chandlery")
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "chandlery"


@dataclass(frozen=True, slots=True)
class Home:
    """The data directory's layout, as far as the command line is concerned."""

    root: Path

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def controlplane(self) -> Path:
        return self.root / "controlplane"

    @property
    def logs(self) -> Path:
        return self.root / "log"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def keeper_state(self) -> Path:
        return self.run / "keeper.json"

    @property
    def keeper_lock(self) -> Path:
        return self.run / "keeper.lock"

    def log(self, name: str) -> Path:
        """The log of one of our own processes: keeper, controlplane, operator."""
        return self.logs / f"{name}.log"
