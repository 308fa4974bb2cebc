"""An embedded control plane for tests: in this process, in a thread of its own, ready in a fraction of a second.

    from chandlery.testing import start_control_plane

    with start_control_plane() as plane:
        subprocess.run(["kubectl", "get", "ns"], env=os.environ | plane.env, check=True)

As pytest fixtures: `pytest_plugins = ["chandlery.testing.fixtures"]` gives `control_plane` (one per test) and
`control_plane_session` (one per run). Where KUBEBUILDER_ASSETS names a folder with a real kube-apiserver and etcd,
these are started instead, as processes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from chandlery.controlplane.plane import ControlPlane
from chandlery.controlplane.settings import ControlPlaneSettings
from chandlery.testing.real import RealServers

T = TypeVar("T")

START_SECONDS = 30.0
STOP_SECONDS = 15.0


class RunningControlPlane:
    """A control plane that answers requests. All of it may be used from any thread."""

    def __init__(self, settings: ControlPlaneSettings, binaries: Path | None = None) -> None:
        self.settings = settings
        self._real = RealServers(settings, binaries) if binaries is not None else None
        self._plane: ControlPlane | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._up = threading.Event()
        self._error: BaseException | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="control-plane", daemon=True)

    def start(self) -> None:
        """Raises what kept it from starting."""
        if self._real is not None:
            self._real.start()
            return
        self._thread.start()
        if not self._up.wait(START_SECONDS):
            raise TimeoutError(f"the control plane was not ready within {START_SECONDS:.0f} s")
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits in start()
            self._error = error
            self._up.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with ControlPlane(self.settings) as plane:
            self._plane = plane
            self._up.set()
            await self._stop.wait()

    def stop(self) -> None:
        if self._real is not None:
            self._real.stop()
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(STOP_SECONDS)

    @property
    def plane(self) -> ControlPlane:
        """The control plane itself; its methods belong to its own event loop: see `call`.

        Raises RuntimeError where real servers run in its place.
        """
        if self._plane is None:
            raise RuntimeError(
                "this is a real kube-apiserver (KUBEBUILDER_ASSETS): it can be asked by its API only"
                if self._real is not None
                else "the control plane has not been started"
            )
        return self._plane

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the control plane's event loop and wait for its result."""
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("nothing of this control plane runs in this process")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(START_SECONDS)

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""
        return self.settings.kubeconfig_path

    @property
    def url(self) -> str:
        return self._real.url if self._real is not None else self.plane.url

    @property
    def env(self) -> dict[str, str]:
        """What to add to the environment of kubectl, helm, an operator ..."""
        return {"KUBECONFIG": str(self.kubeconfig)}


@contextmanager
def start_control_plane(
    data_dir: Path | None = None,
    *,
    store: Literal["sqlite", "memory", "etcd"] = "memory",
    binaries: Path | Literal[False] | None = None,
    **options: Any,
) -> Iterator[RunningControlPlane]:
    """A running control plane for the length of a `with`; in a temporary directory when none is given.

    `options` are fields of `ControlPlaneSettings`. `binaries` is a folder with a real kube-apiserver and etcd that run
    in its place; None: the folder in KUBEBUILDER_ASSETS, if that is set; False: the embedded one in any case.
    """
    folder = data_dir or Path(tempfile.mkdtemp(prefix="chandlery-test-"))
    known = os.environ.get("KUBEBUILDER_ASSETS") if binaries is None else binaries
    settings = ControlPlaneSettings(data_dir=folder, store=store, **options)
    plane = RunningControlPlane(settings, Path(known) if known else None)
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()
        if data_dir is None:
            shutil.rmtree(folder, ignore_errors=True)
