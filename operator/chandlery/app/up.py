"""`chandlery up`: control plane, operator and engines on this machine, and what was asked for, Ready."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandlery.app import keeping, manifests
from chandlery.app.home import Home
from chandlery.app.platform_defaults import local_classes
from chandlery.app.progress import Progress
from chandlery.foundation.errors import AlreadyExists, ChandleryError, InvalidConfiguration, Timeout, Unavailable
from chandlery.reconcile.api import Api, Obj, ResourceType

if TYPE_CHECKING:
    from chandlery.reconcile.client import HttpApi

POLL = 0.05
POLL_LONG = 0.5
"""While something is fetched or built, which takes seconds at least."""


@dataclass(slots=True)
class UpOptions:
    data_dir: Path
    detach: bool = False
    port: int = 0
    store: str = "sqlite"
    etcd_servers: str = ""
    """Comma-separated URLs, for the store etcd."""
    kubeconfig: Path | None = None
    """Work against this cluster's API instead of an embedded control plane."""
    apply: list[Path] = field(default_factory=list)
    timeout: float = 300.0
    wait: bool = True

    @property
    def chosen(self) -> bool:
        """Whether it matters to somebody which control plane it is."""
        return bool(self.port or self.store != "sqlite" or self.kubeconfig)


def check(options: UpOptions) -> None:
    """Options that exclude or need one another.

    Raises:
        InvalidConfiguration: they do.
    """
    if options.kubeconfig is not None and (options.port or options.store != "sqlite" or options.etcd_servers):
        raise InvalidConfiguration(
            "--port, --store and --etcd-servers are for the control plane, which isn't started with --kubeconfig",
            hint="Leave out one or the other.",
        )
    if options.kubeconfig is not None and not options.kubeconfig.is_file():
        raise InvalidConfiguration(f"there is no file {options.kubeconfig}", field="--kubeconfig")
    if options.etcd_servers and options.store != "etcd":
        raise InvalidConfiguration("--etcd-servers needs --store etcd", value=options.etcd_servers)
    if options.store == "etcd" and not (options.etcd_servers or os.environ.get("CHANDLERY_CONTROLPLANE_ETCD_SERVERS")):
        raise InvalidConfiguration(
            "--store etcd needs --etcd-servers, such as http://127.0.0.1:2379",
            hint="`chandlery engines install etcd` brings an etcd to run where there is none.",
        )


def processes(options: UpOptions, home: Home) -> list[tuple[str, Sequence[str]]]:
    """What the keeper runs."""
    python = sys.executable
    found: list[tuple[str, Sequence[str]]] = []
    if options.kubeconfig is None:
        argv = [python, "-m", "chandlery.controlplane", "--data-dir", str(home.controlplane)]
        argv += ["--kubeconfig", str(home.kubeconfig), "--store", options.store]
        if options.etcd_servers:
            argv += ["--etcd-servers", options.etcd_servers]
        if options.port:
            argv += ["--port", str(options.port)]
        found.append(("controlplane", argv))
    kubeconfig = options.kubeconfig or home.kubeconfig
    found.append(
        ("operator", [python, "-m", "chandlery.app.run", "--data-dir", str(home.root), "--kubeconfig", str(kubeconfig)])
    )
    for path in options.apply:
        found += procfile(path, home)
    return found


def procfile(folder: Path, home: Home) -> list[tuple[str, Sequence[str]]]:
    """The programs that come with a folder of manifests: `name: command` lines in its Procfile, run in that folder.

    Raises:
        InvalidConfiguration: a line isn't of that form.
    """
    path = folder / "Procfile"
    if not path.is_file():
        return []
    found: list[tuple[str, Sequence[str]]] = []
    scripts = Path(sys.executable).parent
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, command = line.partition(":")
        if not colon or not command.strip() or not name.replace("-", "").replace("_", "").isalnum():
            raise InvalidConfiguration(f"line {number} of {path} is not `name: command`", value=line)
        # The environment's own programs first, so that `chandlery` and `python` are the ones at work here.
        shell = f'cd "$0" && export PATH="$1:$PATH" CHANDLERY_DATA_DIR="$2" && exec {command.strip()}'
        found.append((name, ["/bin/sh", "-c", shell, str(folder.resolve()), str(scripts), str(home.root)]))
    return found


class Up:
    """One call of `chandlery up`."""

    def __init__(self, options: UpOptions, progress: Progress) -> None:
        self.options = options
        self.progress = progress
        self.home = Home(options.data_dir)
        self.keeper: subprocess.Popen[bytes] | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.options.kubeconfig or keeping.kubeconfig(self.home)

    def read(self) -> list[Obj]:
        """What is to be applied.

        Raises:
            InvalidConfiguration: a file can't be read, isn't a manifest, or is of a kind that can't be applied here.
        """
        found = [obj for path in self.options.apply for obj in manifests.read(path)]
        for obj in found:
            if manifests.type_of_object(obj).namespaced:
                obj.setdefault("metadata", {}).setdefault("namespace", "default")
        return found

    def start(self) -> None:
        """Start the keeper, unless one is at work.

        Raises:
            AlreadyExists: one is, and this call wants to stay in the foreground.
        """
        keeping.make_directories(self.home)
        if keeping.is_kept(self.home):
            if not self.options.detach:
                raise AlreadyExists(
                    f"Chandlery already runs on {self.home.root}",
                    hint="`chandlery status` shows it, `chandlery down` stops it; --detach applies to what runs.",
                )
            self.progress.done(f"already running on {self.home.root}")
            wanted = processes(self.options, self.home)
            running = keeping.spec(self.home)
            if self.options.chosen and any(running.get(name, argv) != list(argv) for name, argv in wanted):
                self.progress.note("it goes on with the options that it was started with; `chandlery down` first")
            if added := keeping.add(self.home, wanted):
                self.progress.done(f"started besides: {', '.join(added)}")
            return
        keeping.check_no_copy(self.home)
        self.keeper = keeping.start(self.home, processes(self.options, self.home))

    async def bring_up(self) -> list[Obj]:
        """Wait for the control plane, apply everything, wait until it is Ready; returns the objects applied."""
        api = await self._control_plane()
        try:
            await asyncio.gather(*(self._apply(api, [crd]) for crd in manifests.crds()))
            await self._established(api)
            await asyncio.gather(*(self._apply(api, [each]) for each in local_classes()))
            wanted = self.read()
            await self._apply(api, wanted)
            if wanted:
                self.progress.done(f"{counted(len(wanted), 'object')} applied")
            ours = [obj for obj in wanted if _is_ours(obj)]
            if self.options.wait and ours:
                await self._ready(api, ours)
            return ours
        finally:
            await api.close()

    async def _control_plane(self) -> HttpApi:
        self.progress.waiting("waiting for the control plane")
        deadline = asyncio.get_running_loop().time() + self.options.timeout
        problem: object = "no kubeconfig yet"
        while True:
            keeping.check_alive(self.home, self.keeper, "controlplane")
            if self.kubeconfig.exists():
                try:
                    api = connect(self.kubeconfig)
                    try:
                        await api.list(_NAMESPACES)
                    except ChandleryError:
                        await api.close()
                        raise
                except ChandleryError as error:
                    problem = error
                else:
                    self.progress.done(f"control plane ready ({kubectl()} --kubeconfig {self.kubeconfig})")
                    return api
            if asyncio.get_running_loop().time() > deadline:
                raise Timeout(f"the control plane is not ready after {self.options.timeout:.0f} s: {problem}")
            await asyncio.sleep(POLL)

    async def _apply(self, api: Api, objects: Sequence[Obj]) -> None:
        for obj in objects:
            await api.apply(manifests.type_of_object(obj), obj, manager="chandlery-up")

    async def _established(self, api: Api) -> None:
        """Custom resources are served some moments after their definition."""
        for kind in manifests.custom_types():
            await self._until(lambda kind=kind: api.list(kind), f"{kind.plural} to be served")

    async def _until(self, call: Any, what: str) -> None:
        deadline = asyncio.get_running_loop().time() + self.options.timeout
        while True:
            try:
                await call()
            except (ChandleryError, LookupError) as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise Timeout(f"waited {self.options.timeout:.0f} s for {what}: {error}") from error
                await asyncio.sleep(POLL)
            else:
                return

    async def _ready(self, api: Api, wanted: Sequence[Obj]) -> None:
        deadline = asyncio.get_running_loop().time() + self.options.timeout
        waiting = {_title(obj): obj for obj in wanted}
        said: set[str] = set()
        while waiting:
            fetching = ""
            keeping.check_alive(self.home, self.keeper, "operator")
            for title, obj in list(waiting.items()):
                live = await api.get(
                    manifests.type_of_object(obj), obj["metadata"]["namespace"], obj["metadata"]["name"]
                )
                if live is not None and is_ready(live) and not lacking(live):
                    self.progress.done(f"{title} ready")
                    del waiting[title]
                elif live is not None and (stalled := stalled_because(live)):
                    raise Unavailable(f"{title}: {stalled}", hint="Correct the manifest and run it again.")
                elif live is not None and (words := fetched_now(live)):
                    fetching = f"{title}: {words}"
                    what = words.partition(":")[0].partition(". ")[0].rstrip(".")
                    if what not in said:
                        said.add(what)
                        self.progress.note(f"{title}: {what}")
            if waiting:
                self.progress.waiting(fetching or f"waiting for {', '.join(waiting)}")
                if asyncio.get_running_loop().time() > deadline:
                    raise Timeout(
                        f"not ready after {self.options.timeout:.0f} s: {', '.join(waiting)}",
                        hint="`chandlery status` says why.",
                    )
                await asyncio.sleep(POLL_LONG if fetching else POLL)


_NAMESPACES = ResourceType("", "v1", "namespaces", "Namespace", namespaced=False)


def connect(kubeconfig: Path) -> HttpApi:
    """A client for the API that a kubeconfig names."""
    from chandlery.reconcile.client import HttpApi
    from chandlery.reconcile.credentials import load

    return HttpApi(load(kubeconfig))


def kubectl() -> str:
    """How kubectl is called here: by its name, or by its path in our environment where there is no other."""
    own = Path(sys.executable).parent / "kubectl"
    return "kubectl" if shutil.which("kubectl") or not own.exists() else str(own)


def counted(number: int, what: str, plural: str = "") -> str:
    """1 object, 2 objects."""
    return f"{number} {what if number == 1 else plural or what + 's'}"


def _is_ours(obj: Obj) -> bool:
    return (
        str(obj["apiVersion"]).partition("/")[0].endswith(".chandlery.dev") and manifests.type_of_object(obj).namespaced
    )


def _title(obj: Obj) -> str:
    return f"{obj['kind'].lower()}/{obj['metadata']['name']}"


def condition(obj: Obj, kind: str) -> Obj:
    """One of an object's conditions; empty when it has none of the type, or only one of an older generation."""
    status = obj.get("status") or {}
    if status.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
        return {}
    return next((c for c in status.get("conditions") or () if c["type"] == kind), {})


def is_ready(obj: Obj) -> bool:
    return condition(obj, "Ready").get("status") == "True"


def lacking(obj: Obj) -> str:
    """A condition of the kind's own that isn't true yet: a load balancer serves, but its targets don't."""
    status = obj.get("status") or {}
    for found in status.get("conditions") or ():
        if found["type"] not in ("Ready", "Reconciling", "Stalled", "StorageSufficient") and found["status"] != "True":
            return str(found["type"])
    return ""


def fetched_now(obj: Obj) -> str:
    """What is being installed or downloaded for an object, and how far it is; empty when nothing is."""
    found = condition(obj, "Ready")
    return str(found.get("message", "")) if found.get("reason") in {"InstallingEngine", "PreparingImage"} else ""


def stalled_because(obj: Obj) -> str:
    """What a person must mend; empty when nothing is."""
    found = condition(obj, "Stalled")
    return str(found.get("message") or found.get("reason", "")) if found.get("status") == "True" else ""
