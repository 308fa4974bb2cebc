"""Everything on disk that belongs to one object: one directory, derived from the uid.

<data>/instances/<external name>/
    record.json     who it belongs to, its ports, secrets and processes; 0600, written whole
    config/ data/ log/ run/
"""

from __future__ import annotations

import contextlib
import json
import secrets
import string
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from chandlery.foundation.errors import AlreadyExists, Unavailable
from chandlery.providers.local.cgroups import Allowance
from chandlery.providers.local.files import make_dir, read_json, remove_tree, write_atomic
from chandlery.providers.local.process import Process

if TYPE_CHECKING:
    from chandlery.providers.local.engines import Engine
    from chandlery.providers.local.provider import LocalProvider

RECORD = "record.json"
FORMAT = 1
_ALPHABET = string.ascii_letters + string.digits


def generate_password(length: int = 32) -> str:
    """Letters and digits only: fits into a URI, a configuration file and a shell without quoting. 190 bits at 32."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


class Instance:
    """One object's directory. Cheap to make; nothing is read or written before it is asked for."""

    def __init__(self, provider: LocalProvider, name: str) -> None:
        self.provider = provider
        self.name = name
        self.root = provider.instances_dir / name
        self.config_dir = self.root / "config"
        self.data_dir = self.root / "data"
        self.log_dir = self.root / "log"
        self.run_dir = self.root / "run"
        self._record: dict[str, Any] | None = None
        self._holds = 0
        self._unsaved = False
        self._processes: dict[str, Process] = {}
        self.allowance: Callable[[str], Allowance] = lambda _process: Allowance()
        """What each of its processes may use at most; said by the driver in each pass."""

    # -- record

    @property
    def exists(self) -> bool:
        return (self.root / RECORD).exists()

    @property
    def record(self) -> dict[str, Any]:
        """The record; empty when there is none yet. Changes count after `save`."""
        if self._record is None:
            loaded = read_json(self.root / RECORD) or {}
            if loaded.get("format", FORMAT) > FORMAT:
                raise Unavailable(
                    f"{self.root / RECORD} was written by a newer Chandlery (format {loaded['format']})",
                    hint="Run that version, or a newer one.",
                    retry_after=None,
                )
            self._record = loaded
        return self._record

    def save(self) -> None:
        """Write the record; inside of `at_once` later, with whatever else changes until then."""
        if self._holds:
            self._unsaved = True
        else:
            self._write()

    def _write(self) -> None:
        self._unsaved = False
        write_atomic(self.root / RECORD, _dump(self.record))

    def flush(self) -> None:
        """Write what waits: an engine is about to rely on it."""
        if self._unsaved:
            self._write()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Write the record once for all that happens inside, and before any process is started."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if not self._holds and self.root.exists():
                self.flush()

    def reload(self) -> None:
        """Forget what was read: another process may have written."""
        self.flush()
        self._record = None

    def create(self, *, kind: str, namespace: str, name: str, uid: str) -> None:
        """Make the directories and the record. Safe to repeat.

        Raises:
            AlreadyExists: the directory belongs to another object.
        """
        owner = self.record.get("owner")
        if owner is not None and owner.get("uid") != uid:
            raise AlreadyExists(
                f"{self.root} belongs to {owner.get('kind')} {owner.get('namespace')}/{owner.get('name')}",
                hint="Name another externalName in spec.adopt.",
            )
        make_dir(self.root)
        for directory in (self.config_dir, self.data_dir, self.log_dir, self.run_dir):
            make_dir(directory)
        if owner is None:
            self.record.update(
                {
                    "format": FORMAT,
                    "owner": {"kind": kind, "namespace": namespace, "name": name, "uid": uid},
                    "ports": self.record.get("ports", {}),
                    "secrets": self.record.get("secrets", {}),
                    "processes": self.record.get("processes", {}),
                }
            )
            self.save()

    # -- ports and secrets

    @property
    def ports(self) -> Mapping[str, int]:
        ports: Mapping[str, int] = self.record.get("ports", {})
        return ports

    def port(self, name: str, preferred: int | None = None, *, block: int = 1) -> int:
        """The port claimed under this name; claimed and recorded at the first call.

        `block` claims as many neighbours (a cluster of replicas); their names are `name`, `name+1`, ...
        """
        ports: dict[str, int] = self.record.setdefault("ports", {})
        if name not in ports:
            first = self.provider.ports.choose(preferred, block=block)
            ports[name] = first
            for offset in range(1, block):
                ports[f"{name}+{offset}"] = first + offset
            self.save()
        return ports[name]

    def move_port(self, name: str) -> int:
        """Give up a port that somebody else took and claim another."""
        self.record.setdefault("ports", {}).pop(name, None)
        return self.port(name)

    def claim_port(self, name: str, port: int, field: str = "spec.exposure.port") -> None:
        """Have just this port under this name, and give up the one before.

        Raises:
            Unavailable: another program or another object has it.
        """
        if self.ports.get(name) == port:
            return
        if self.provider.ports.choose(port) != port:
            raise Unavailable(
                f"port {port} is taken by another program or object",
                field=field,
                value=port,
                hint=f"End what has it (`ss -ltnp 'sport = :{port}'` names it) or name another port.",
                retry_after=2.0,
            )
        self.record.setdefault("ports", {})[name] = port
        self.save()

    def release_port(self, name: str) -> None:
        if self.record.get("ports", {}).pop(name, None) is not None:
            self.save()

    def secret(self, name: str, make: Callable[[], str] = generate_password) -> str:
        """A generated secret, the same at every call."""
        known: dict[str, str] = self.record.setdefault("secrets", {})
        if name not in known:
            known[name] = make()
            self.save()
        return known[name]

    def drop_secret(self, name: str) -> None:
        """Forget one; the next call of `secret` makes a new one (rotation)."""
        if self.record.get("secrets", {}).pop(name, None) is not None:
            self.save()

    # -- files and processes

    def engine(self, name: str, version: str | None = None) -> Engine:
        """An engine; where it isn't here its installation is begun, and the object is woken when it ended.

        Raises:
            NotSupported: this platform can't have it.
            InstallingEngine: it is on its way.
        """
        return self.provider.engines.require(name, version, wake=self.wake)

    def wake(self) -> None:
        """Have the loop look at the object now."""
        self.provider.notify(self.name)

    def write_config(self, name: str, content: str | bytes) -> bool:
        """Write config/<name> whole, 0600, readable by the engine; True when it changed."""
        return write_atomic(self.config_dir / name, content, owner=self.provider.privileges.owner_of_files(self.root))

    def process(self, name: str = "main") -> Process:
        """The engine process of this name, running or not."""
        if name not in self._processes:
            self._processes[name] = Process(self, name)
        return self._processes[name]

    def drop_process(self, name: str) -> None:
        self._processes.pop(name, None)

    def process_names(self) -> tuple[str, ...]:
        """Every process that was ever started and not forgotten."""
        return tuple(self.record.get("processes", {}))

    async def stop_all(self) -> None:
        """Stop every process, those first that were started last."""
        for name in reversed(self.process_names()):
            await self.process(name).stop()

    def kept(self) -> str:
        """What is said of data that stay, and how to use them again."""
        return f"the data stays in {self.root}; spec.adopt.externalName {self.name} in a new object takes it over"

    async def remove(self, *, keep_data: bool = False) -> None:
        """Stop everything and remove the directory; with `keep_data` it stays, with ports given up."""
        if not self.root.exists():
            return
        await self.stop_all()
        if keep_data:
            self.record["ports"] = {}
            self.record["retained"] = True
            self.save()
        else:
            remove_tree(self.root)
            self._record, self._unsaved = None, False
        self.provider.forget(self.name)


def _dump(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=1, sort_keys=True) + "\n"
