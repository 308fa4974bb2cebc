"""The network of pods: a namespace of the test's own with a bridge, an address for each pod, names, and Services.

Nothing of it is seen outside: the test enters it with its thread, and what it starts from there is inside too.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from kubelet.runtime import run

from chandlery.driver.objects import ResourceType
from chandlery.providers.kubernetes.types import SERVICES

SLICES = ResourceType("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
DNS = "10.96.0.10"
GATEWAY = "10.244.0.1"
DOMAIN = "cluster.local"
_NEW_NETWORK = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> None:
    if getattr(_LIBC, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


class Network:
    """A network namespace with a bridge."""

    def __init__(self) -> None:
        self._outside = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        _call("unshare", _NEW_NETWORK)
        self._inside = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        self._pods = 0
        self._addresses = 0
        self.servers: dict[tuple[str, int], asyncio.Server] = {}
        try:
            run("ip", "link", "set", "lo", "up")
            run("ip", "link", "add", "pods", "type", "bridge")
            run("ip", "address", "add", f"{GATEWAY}/16", "dev", "pods")
            run("ip", "link", "set", "pods", "up")
            run("ip", "address", "add", f"{DNS}/32", "dev", "lo")
        finally:
            _call("setns", self._outside, _NEW_NETWORK)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it starts, is inside."""
        _call("setns", self._inside, _NEW_NETWORK)
        try:
            yield
        finally:
            _call("setns", self._outside, _NEW_NETWORK)

    @contextlib.contextmanager
    def left(self) -> Iterator[None]:
        """This thread is outside for a while: what it starts reaches registries."""
        _call("setns", self._outside, _NEW_NETWORK)
        try:
            yield
        finally:
            _call("setns", self._inside, _NEW_NETWORK)

    def close(self) -> None:
        os.close(self._inside)
        os.close(self._outside)

    def connect(self) -> tuple[str, str]:
        """A namespace for a pod: its name and its address."""
        self._pods += 1
        number = self._pods
        name, outer = f"chandlery-{os.getpid()}-{number}", f"pod{number}"
        ip = f"10.244.{1 + number // 250}.{1 + number % 250}"
        run("ip", "netns", "add", name)
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", outer, "master", "pods", "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "address", "add", f"{ip}/16", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        run("ip", "-n", name, "route", "add", "default", "via", GATEWAY)
        return name, ip

    def disconnect(self, name: str) -> None:
        with contextlib.suppress(RuntimeError):
            run("ip", "netns", "delete", name)

    @staticmethod
    def path(name: str) -> Path:
        return Path("/run/netns") / name


class Services:
    """What kube-proxy and the cluster's DNS do, for as long as it is entered."""

    def __init__(self, api: Any, port: int) -> None:
        self.api = api
        self._api_port = port
        self._services: dict[tuple[str, str], dict[str, Any]] = {}
        self._endpoints: dict[tuple[str, str], list[tuple[dict[str, Any], list[dict[str, Any]]]]] = {}
        self._servers: dict[tuple[str, int], asyncio.Server] = {}
        self._links: set[asyncio.Task[None]] = set()
        self._known: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._dns: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._dns, _ = await loop.create_datagram_endpoint(lambda: _Names(self), local_addr=(DNS, 53))
        await self._look()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for server in self._servers.values():
            server.close()
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        if self._dns is not None:
            self._dns.close()
        for address in self._known:
            with contextlib.suppress(RuntimeError):
                run("ip", "address", "delete", f"{address}/32", "dev", "lo")

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(Exception):
                await self._look()
            await asyncio.sleep(0.2)

    async def _look(self) -> None:
        found = {}
        for service in (await self.api.list(SERVICES)).items:
            found[service["metadata"]["namespace"], service["metadata"]["name"]] = service
        endpoints: dict[tuple[str, str], list[Any]] = {}
        for piece in (await self.api.list(SLICES)).items:
            key = piece["metadata"]["namespace"], piece["metadata"]["labels"].get("kubernetes.io/service-name", "")
            for endpoint in piece.get("endpoints") or ():
                endpoints.setdefault(key, []).append((endpoint, piece.get("ports") or []))
        self._services, self._endpoints = found, endpoints
        wanted = {
            (service["spec"]["clusterIP"], port["port"]): (key, port)
            for key, service in found.items()
            for port in service["spec"].get("ports") or ()
            if service["spec"].get("clusterIP") not in (None, "", "None", DNS)
        }
        for place in [place for place in self._servers if place not in wanted]:
            self._servers.pop(place).close()
        for (address, number), (key, port) in wanted.items():
            if (address, number) not in self._servers:
                if address not in self._known:
                    self._known.add(address)
                    run("ip", "address", "add", f"{address}/32", "dev", "lo")
                handler = self._handler(key, port.get("name", ""))
                self._servers[address, number] = await asyncio.start_server(handler, address, number)

    def behind(self, key: tuple[str, str], port: str) -> list[tuple[str, int]]:
        """Where a connection to a Service goes: its ready endpoints."""
        if key == ("default", "kubernetes"):
            return [("127.0.0.1", self._api_port)]
        found = []
        for endpoint, ports in self._endpoints.get(key, ()):
            if endpoint.get("conditions", {}).get("ready"):
                found += [(endpoint["addresses"][0], p["port"]) for p in ports if p.get("name", "") == port]
        return found

    def _handler(self, key: tuple[str, str], port: str) -> Any:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._links.add(task)
            try:
                places = self.behind(key, port)
                if places:
                    await _relay(reader, writer, random.choice(places))
            except (OSError, asyncio.CancelledError):
                pass
            finally:
                self._links.discard(task)
                writer.transport.abort()

        return handle

    def answer(self, name: str) -> list[str] | None:
        """Addresses of a name; None when there is no such name."""
        words = name.lower().rstrip(".").removesuffix(f".{DOMAIN}").split(".")
        if not name.lower().rstrip(".").endswith(f".svc.{DOMAIN}") or words[-1] != "svc" or not 3 <= len(words) <= 4:
            return None
        *pod, service, namespace, _ = words
        found = self._services.get((namespace, service))
        if found is None:
            return None
        address = found["spec"].get("clusterIP")
        if not pod and address not in (None, "", "None"):
            return [address]
        ready = [
            (endpoint.get("hostname"), endpoint["addresses"][0])
            for endpoint, _ in self._endpoints.get((namespace, service), ())
            if endpoint.get("conditions", {}).get("ready")
        ]
        found_ips = [ip for host, ip in ready if not pod or host == pod[0]]
        return found_ips or None


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, place: tuple[str, int]) -> None:
    there, to = await asyncio.open_connection(*place)

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        with contextlib.suppress(OSError):
            target.write_eof()

    try:
        await asyncio.gather(carry(reader, to), carry(there, writer))
    finally:
        to.transport.abort()


class _Names(asyncio.DatagramProtocol):
    """Just enough of DNS: A records, and that there are no others. Source: RFC 1035."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        assert self._transport is not None
        name, at = [], 12
        while data[at]:
            name.append(data[at + 1 : at + 1 + data[at]].decode(errors="replace"))
            at += 1 + data[at]
        question = data[12 : at + 5]
        kind = struct.unpack(">H", data[at + 1 : at + 3])[0]
        found = self._services.answer(".".join(name))
        addresses = (found or []) if kind == 1 else []
        flags = 0x8580 | (3 if found is None else 0)
        head = data[:2] + struct.pack(">HHHHH", flags, 1, len(addresses), 0, 0)
        body = b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + bytes(int(part) for part in ip.split("."))
            for ip in addresses
        )
        self._transport.sendto(head + question + body, address)


def resolver(namespace: str) -> str:
    """/etc/resolv.conf of a pod."""
    search = f"{namespace}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}"
    return f"search {search}\nnameserver {DNS}\noptions ndots:5\n"


def hosts(pod: dict[str, Any], ip: str) -> str:
    """/etc/hosts of a pod."""
    spec, meta = pod["spec"], pod["metadata"]
    host = spec.get("hostname") or meta["name"]
    names = f"{host}.{spec['subdomain']}.{meta['namespace']}.svc.{DOMAIN}\t{host}" if spec.get("subdomain") else host
    lines = ["# Kubernetes-managed hosts file.", "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    return "\n".join([*lines, f"{ip}\t{names}", ""])
