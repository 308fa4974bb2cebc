"""One running control plane: put together, started and stopped as an object."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import ipaddress
import logging
import os
import signal
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from chandlery.controlplane import tls
from chandlery.controlplane.core import Core
from chandlery.controlplane.settings import ControlPlaneSettings
from chandlery.controlplane.store.base import Store, StoreError
from chandlery.foundation.collector import give_back

if TYPE_CHECKING:
    from chandlery.controlplane.audit import AuditLog
    from chandlery.controlplane.controllers import Controllers
    from chandlery.controlplane.crdcontroller import CrdController
    from chandlery.controlplane.localapi import Local
    from chandlery.controlplane.server.app import App
    from chandlery.controlplane.server.connection import HttpServer

log = logging.getLogger(__name__)

_STOP_SECONDS = 5.0
_TICK_SECONDS = 2.0
_QUIET_TICKS = 3


class ControlPlaneError(RuntimeError):
    """The control plane can't start; the text says why and what to do."""


class ControlPlane:
    """An embedded Kubernetes API server: `await start()`, use `kubeconfig`, `await stop()`.

    Also an async context manager. `start` returns once requests are answered.

    Args:
        settings: all that can be set.
        alone: nothing else is in this process, so that it may be forked.
    """

    def __init__(self, settings: ControlPlaneSettings, *, alone: bool = False) -> None:
        self.settings = settings
        self._alone = alone
        self.ready = asyncio.Event()
        self.url = ""
        self.port = 0
        self.core: Core | None = None
        self.api: Local | None = None
        self._lock: int | None = None
        self._app: App | None = None
        self._site: asyncio.Server | None = None
        self._http: HttpServer | None = None
        self._controllers: Controllers | None = None
        self._leading: asyncio.Task[None] | None = None
        self._crds: CrdController | None = None
        self._audit: AuditLog | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._warm: asyncio.Task[None] | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.settings.kubeconfig_path

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Raises ControlPlaneError with a sentence for people."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings = self.settings
        folder = settings.data_dir
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock(folder)
        sock = self._bind(folder)
        service_ip = str(next(ipaddress.ip_network(settings.service_cluster_ip_range).hosts()))
        pki = settings.tls_folder or folder / "pki"
        hosts = tls.server_hosts(settings.host, service_ip)
        prepared = tls.prepare_apart(pki, hosts) if self._alone else partial(tls.prepare, pki, hosts)
        # Everything heavy is imported after the socket is bound: clients may already connect and wait.
        from chandlery.controlplane.audit import AuditLog
        from chandlery.controlplane.auth import (
            Authenticator,
            Authorizer,
            read_token_file,
            virtual_resources,
        )
        from chandlery.controlplane.builtins import ServiceAllocator, builtin_resources
        from chandlery.controlplane.crdcontroller import CrdController
        from chandlery.controlplane.crdstrategy import install
        from chandlery.controlplane.discovery import Discovery
        from chandlery.controlplane.localapi import Local
        from chandlery.controlplane.server.app import App
        from chandlery.controlplane.server.connection import HttpServer
        from chandlery.controlplane.server.documents import Documents
        from chandlery.controlplane.server.metrics import Metrics
        from chandlery.controlplane.server.quick import Quick
        from chandlery.controlplane.verbs.pods import binding_handler

        certificates = prepared()
        ca = certificates.ca.read_bytes()

        store = _make_store(settings)
        core = self.core = Core(store)
        try:
            changes = await store.open(core.cache.publish)
        except StoreError as error:
            raise ControlPlaneError(str(error)) from error
        core.cache.load(changes, store.compacted)
        core.cache.revision = max(core.cache.revision, store.revision)
        builtins = install(list(builtin_resources()))
        core.registry.add_builtin(builtins)
        core.cache.add(resource.storage_key for resource in builtins)
        core.services = ServiceAllocator(settings.service_cluster_ip_range)
        api = self.api = Local(core)
        tokens: Any = _Late(lambda: _tokens(api, pki / "sa.key", settings.service_account_issuer))
        static = {}
        if settings.token_auth_file is not None:
            try:
                static = read_token_file(settings.token_auth_file)
            except (OSError, ValueError) as error:
                raise ControlPlaneError(f"--token-auth-file: {error}") from error
        authenticator = Authenticator(static_tokens=static, service_accounts=tokens, anonymous=settings.anonymous_auth)
        authorizer = core.authorizer = Authorizer(api)
        core.virtual.update(virtual_resources(api, authenticator, authorizer, tokens))
        core.virtual["", "bindings", ""] = binding_handler(core)
        core.cache.listen(
            lambda kind, where, event: _observe(core, authorizer, kind, where, event),
            [resource.storage_key for resource in builtins if resource.group == "rbac.authorization.k8s.io"],
        )
        from chandlery.controlplane.admission import AdmissionChain

        core.admission = AdmissionChain(api, authorizer=authorizer)
        self._crds = CrdController(core)
        self._crds.start()
        from chandlery.controlplane.controllers.seed import seed

        port = sock.getsockname()[1]
        await seed(api, service_address=service_ip, port=port, service_range=settings.service_cluster_ip_range)
        if settings.controllers:
            from chandlery.controlplane.controllers import Controllers

            controllers = partial(
                Controllers,
                api,
                authorizer=authorizer,
                root_ca=ca.decode(),
                service=(service_ip, port),
                event_ttl=settings.event_ttl,
            )
            await self._run_controllers(controllers)
        if settings.audit:
            self._audit = AuditLog(
                settings.audit_log_path or folder / "audit.log",
                max_bytes=settings.audit_log_maxsize << 20,
                keep=settings.audit_log_maxbackup,
            )
        metrics = Metrics()
        discovery = Discovery(core.registry, f"{_shown(settings.host)}:{sock.getsockname()[1]}")
        documents = Documents(discovery, _open_api(core), metrics, self._failing)
        documents.tokens = tokens
        app = self._app = App(core, settings, documents, authenticator, authorizer, self._audit, metrics)
        metrics.gauge(
            "apiserver_storage_objects",
            "Number of stored objects at the time of last check split by kind.",
            lambda: {
                f'resource="{plural}.{group}"' if group else f'resource="{plural}"': float(len(table.entries))
                for (group, plural), table in core.cache.tables().items()
            },
        )
        metrics.gauge(
            "apiserver_longrunning_requests",
            "Number of watches that are open.",
            lambda: {'verb="WATCH"': float(app.open_watches)},
        )
        quick = Quick(core, authenticator, authorizer, metrics)
        self._http = HttpServer(
            app.handle,
            refuse=app.refuse,
            body_limit=settings.max_request_bytes,
            shortcut=quick.answer,
            screen=app.screen,
        )
        try:
            context = tls.server_context(
                certificates.server_cert,
                certificates.server_key,
                certificates.ca,
                other_ca=settings.client_ca_file,
                minimum=settings.tls_min_version,
            )
        except OSError as error:
            if settings.client_ca_file is None:
                raise
            raise ControlPlaneError(f"--client-ca-file: {settings.client_ca_file}: {_why_no_ca(error)}") from error
        self._site = await asyncio.get_running_loop().create_server(self._http, sock=sock, ssl=context, backlog=1024)
        self.port = port
        self.url = f"https://{_shown(settings.host)}:{self.port}"
        (folder / "port").write_text(f"{self.port}\n")
        tls.write_kubeconfig(
            self.kubeconfig,
            server=self.url,
            ca=ca,
            user={
                "client-certificate-data": _b64(certificates.admin_cert.read_bytes()),
                "client-key-data": _b64(certificates.admin_key.read_bytes()),
            },
        )
        self._ticker = asyncio.create_task(self._tick(), name="control-plane-ticker")
        self.ready.set()
        # What start-up made lives as long as the process: the collector need not look at it again.
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        self._warm = asyncio.create_task(asyncio.to_thread(_warm_up), name="warm-up")

    async def _run_controllers(self, make: Callable[[], Controllers]) -> None:
        """Run the controllers; where others share the store, whenever it is this one's turn."""

        async def begin() -> None:
            self._controllers = make()
            await self._controllers.start()

        async def end() -> None:
            controllers, self._controllers = self._controllers, None
            if controllers is not None:
                await controllers.stop()

        assert self.core is not None
        turns = getattr(self.core.store, "turns", None)
        if turns is None:
            await begin()
        else:
            self._leading = asyncio.create_task(turns.lead("controllers", begin, end), name="controllers-turn")

    def _failing(self) -> list[str]:
        return [] if self.ready.is_set() else ["startup"]

    def _take_lock(self, folder: Path) -> None:
        if self.settings.store == "etcd":
            return
        path = folder / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise ControlPlaneError(
                f"the data directory {folder} is in use by another control plane (process {holder}): "
                "stop that one first, or choose another --data-dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock = descriptor

    def _bind(self, folder: Path) -> socket.socket:
        settings = self.settings
        wanted = settings.port
        remembered = 0
        if not wanted:
            try:
                remembered = int((folder / "port").read_text())
            except (OSError, ValueError):
                remembered = 0
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        for port in [wanted] if wanted else [remembered, 0] if remembered else [0]:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            try:
                sock.bind((settings.host, port))
                sock.listen(1024)  # until somebody listens another may bind the same port, too
            except OSError as error:
                sock.close()
                if port and not wanted:
                    continue
                raise ControlPlaneError(
                    f"can't listen on {settings.host}:{port}: {error.strerror}; "
                    "choose another --port or --bind-address, or stop what uses it"
                ) from error
            return sock
        raise AssertionError("unreachable")

    async def _tick(self) -> None:
        """Housekeeping: end watches of clients that have gone, and forget old history."""
        assert self._app is not None
        assert self.core is not None
        store = self.core.store
        marks: deque[tuple[float, int]] = deque()
        tidied, seen, quiet = -1, store.revision, 0
        every = max(1.0, self.settings.history_seconds / 10)
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            try:
                if self._http is not None:
                    self._http.reap(asyncio.get_running_loop().time())
            except Exception:
                # One connection in an odd state must not end the housekeeping of all others.
                log.exception("connections were not looked through; trying again")
            quiet = quiet + 1 if store.revision == seen else 0
            seen = store.revision
            if quiet >= _QUIET_TICKS and tidied != seen:  # nobody writes: a good time
                tidied = seen
                await asyncio.to_thread(give_back)
            now = time.monotonic()
            if not marks or now - marks[-1][0] >= every:
                for table in self.core.cache.tables().values():
                    table.trim(now)
                marks.append((now, store.revision))
                old = 0
                while marks and now - marks[0][0] > self.settings.history_seconds:
                    old = marks.popleft()[1]
                if old > store.compacted:
                    try:
                        await store.compact(old)
                    except StoreError as error:
                        log.warning("old history was not forgotten: %s; trying again later", error)

    async def stop(self) -> None:
        """Answer what is under way, end watches, close the store. Safe to call twice."""
        self.ready.clear()
        if self._warm is not None:
            await self._warm
            self._warm = None
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        if self._app is not None:
            self._app.stop()
        if self._site is not None:
            self._site.close()
            self._site = None
        if self._http is not None:
            await self._http.shutdown(_STOP_SECONDS)
            await asyncio.sleep(0)  # the loop closes the sockets in its next round
            self._http = None
        if self._leading is not None:
            self._leading.cancel()
            await asyncio.gather(self._leading, return_exceptions=True)
            self._leading = None
        if self._controllers is not None:
            await self._controllers.stop()
            self._controllers = None
        if self._crds is not None:
            await self._crds.stop()
            self._crds = None
        if self.core is not None:
            await self.core.close()
            self.core = None
        if self._audit is not None:
            self._audit.close()
            self._audit = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class _Late:
    """Makes an object when it is first used."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        made = self.__dict__.get("_made")
        if made is None:
            made = self.__dict__["_made"] = self._make()
        return getattr(made, name)


def _tokens(api: Local, key_file: Path, issuer: str) -> Any:
    from chandlery.controlplane.auth.tokens import ServiceAccountTokens

    return ServiceAccountTokens(api, key_file, issuer=issuer)


def _warm_up() -> None:
    """Import what the first CRD would have to wait for.

    What signs tokens and reads YAML is left until somebody asks for it: 12 MB that most servers never need, since
    kubectl sends JSON and local operators come with a certificate.
    """
    import chandlery.controlplane.crd  # noqa: F401


def _observe(core: Core, authorizer, kind: str, where: tuple[str, str], event) -> None:  # type: ignore[no-untyped-def]
    resource = core.registry.stored(*where)
    if resource is not None:
        authorizer.observe(kind, resource, event.entry.obj, event.prev.obj if event.prev else None)


def _open_api(core: Core):  # type: ignore[no-untyped-def]
    try:
        from chandlery.controlplane.openapi import OpenAPI
    except ImportError:
        return None
    return OpenAPI(core.registry)


def _why_no_ca(error: OSError) -> str:
    return "there are no certificates in it" if isinstance(error, ssl.SSLError) else error.strerror or str(error)


def _make_store(settings: ControlPlaneSettings) -> Store:
    if settings.store == "memory":
        from chandlery.controlplane.store.memory import MemoryStore

        return MemoryStore()
    if settings.store == "sqlite":
        from chandlery.controlplane.store.sqlite import SqliteStore

        return SqliteStore(settings.data_dir / "store.db", synchronous=settings.synchronous)
    if settings.store == "etcd":
        from chandlery.controlplane.store.etcd import EtcdStore

        try:
            return EtcdStore(
                settings.etcd_servers,
                prefix=settings.etcd_prefix,
                cafile=settings.etcd_cafile,
                certfile=settings.etcd_certfile,
                keyfile=settings.etcd_keyfile,
            )
        except ValueError as error:
            raise ControlPlaneError(str(error)) from error
    raise ControlPlaneError(f"--store {settings.store}: must be sqlite, memory or etcd")


def _shown(host: str) -> str:
    if host in ("0.0.0.0", ""):  # noqa: S104 - shown, not bound
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def _b64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


async def serve(settings: ControlPlaneSettings, *, announce: bool = True) -> None:
    """Run until SIGINT or SIGTERM. Raises ControlPlaneError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with ControlPlane(settings, alone=True) as plane:
        if announce:
            print(f"ready: {plane.url} (KUBECONFIG={plane.kubeconfig})", flush=True)  # noqa: T201 - for people and scripts
        await stop.wait()


def run(settings: ControlPlaneSettings, *, announce: bool = True) -> None:
    """Run a control plane in this process until it is told to stop, on uvloop where there is one."""
    # The thread that commits must get its turn at once: with the usual 5 ms a busy loop would hold up every commit.
    sys.setswitchinterval(0.0005)
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(settings, announce=announce))
    else:
        uvloop.run(serve(settings, announce=announce))
