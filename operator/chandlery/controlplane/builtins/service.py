"""Services: cluster IPs, IP families and node ports.

Source: the field descriptions of ServiceSpec and the documentation of Service ClusterIP allocation; observed answers of
kube-apiserver 1.36 with a single-stack IPv4 range.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
import time
from collections.abc import Iterable

from chandlery.controlplane import errors as refusals
from chandlery.controlplane.types import FieldError, Obj, RequestContext

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_ALLOCATING = ("ClusterIP", "NodePort", "LoadBalancer")


def prepare_for_create(_: RequestContext, obj: Obj) -> None:
    """Bring clusterIP and clusterIPs together and choose families; the address itself comes from `ServiceAllocator`."""
    _normalize(obj, None)
    _drop_disabled(obj)


def prepare_for_update(_: RequestContext, obj: Obj, old: Obj) -> None:
    """Carry allocated values over where the client left them out."""
    spec, before = obj["spec"], old["spec"]
    kind, kind_before = spec.get("type"), before.get("type")
    if kind in _ALLOCATING and kind_before in _ALLOCATING:
        if not spec.get("clusterIP") and not spec.get("clusterIPs") and before.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
            spec["clusterIPs"] = list(before.get("clusterIPs") or [before["clusterIP"]])
        elif (
            not spec.get("clusterIP") and spec.get("clusterIPs") == before.get("clusterIPs") and before.get("clusterIP")
        ):
            spec["clusterIP"] = before["clusterIP"]
        if kind in ("NodePort", "LoadBalancer") and kind_before in ("NodePort", "LoadBalancer"):
            known = {(p.get("protocol"), p.get("port")): p.get("nodePort") for p in before.get("ports") or ()}
            used = {p.get("nodePort") for p in spec.get("ports") or () if p.get("nodePort")}
            for port in spec.get("ports") or ():
                found = known.get((port.get("protocol"), port.get("port")))
                if not port.get("nodePort") and found and found not in used:
                    port["nodePort"] = found
        for field in ("ipFamilies", "ipFamilyPolicy"):
            if not spec.get(field) and before.get(field):
                spec[field] = before[field]
        if spec.get("healthCheckNodePort") is None and before.get("healthCheckNodePort") and _needs_health_port(spec):
            spec["healthCheckNodePort"] = before["healthCheckNodePort"]
    _normalize(obj, old)
    _drop_type_dependent(spec, before)
    _drop_disabled(obj)


def _needs_health_port(spec: Obj) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _normalize(obj: Obj, old: Obj | None) -> None:
    spec = obj["spec"]
    if old is None:
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        return
    before = old["spec"]
    ip, ips = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    ip_before, ips_before = before.get("clusterIP") or "", before.get("clusterIPs") or []
    if not ip and ips and (ip_before or not ips_before) and ips == ips_before:
        spec.pop("clusterIPs", None)
    elif ip != ip_before and ips == ips_before:
        spec["clusterIPs"] = [ip] if ip else []
        if not ip:
            spec.pop("clusterIPs")


def _drop_type_dependent(spec: Obj, before: Obj) -> None:
    """Fields that the old type needed go away with it, unless the client changed them in the same request."""
    kind = spec.get("type")
    if kind == "ExternalName":
        if spec.get("clusterIP") == before.get("clusterIP"):
            spec.pop("clusterIP", None)
        if spec.get("clusterIPs") == before.get("clusterIPs"):
            spec.pop("clusterIPs", None)
        if spec.get("ipFamilies") == before.get("ipFamilies"):
            spec.pop("ipFamilies", None)
        if spec.get("ipFamilyPolicy") == before.get("ipFamilyPolicy"):
            spec.pop("ipFamilyPolicy", None)
    if kind not in ("NodePort", "LoadBalancer") and before.get("type") in ("NodePort", "LoadBalancer"):
        old_ports = {p.get("nodePort") for p in before.get("ports") or ()}
        if all(p["nodePort"] in old_ports for p in spec.get("ports") or () if p.get("nodePort")):
            for port in spec.get("ports") or ():
                port.pop("nodePort", None)
        if spec.get("externalTrafficPolicy") == before.get("externalTrafficPolicy") and not spec.get("externalIPs"):
            spec.pop("externalTrafficPolicy", None)
    if not _needs_health_port(spec) and spec.get("healthCheckNodePort") == before.get("healthCheckNodePort"):
        spec.pop("healthCheckNodePort", None)
    if kind != "LoadBalancer" and before.get("type") == "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(field) == before.get(field):
                spec.pop(field, None)


def _drop_disabled(obj: Obj) -> None:
    if obj["spec"].get("type") != "LoadBalancer":
        (obj.get("status") or {}).get("loadBalancer", {}).pop("ingress", None)


def _claims(spec: Obj) -> Obj:
    """What a Service takes from others: addresses and ports."""
    ports = [{"protocol": p.get("protocol", "TCP"), "nodePort": p.get("nodePort")} for p in spec.get("ports") or ()]
    return {
        "clusterIPs": [ip for ip in spec.get("clusterIPs") or () if ip != "None"],
        "ports": ports,
        "healthCheckNodePort": spec.get("healthCheckNodePort"),
    }


def _ready(service_cidrs: Iterable[Obj]) -> list[str]:
    """The ranges that addresses may come from: those that nobody calls not ready."""
    return [
        cidr
        for one in service_cidrs
        if all(
            condition.get("status") == "True"
            for condition in (one.get("status") or {}).get("conditions") or ()
            if condition.get("type") == "Ready"
        )
        for cidr in (one.get("spec") or {}).get("cidrs") or ()
    ]


class ServiceAllocator:
    """Gives Services their cluster IPs and node ports.

    The Services that exist are what is taken, and what was given in the last seconds to those that are still being
    written: nothing else is kept, so nothing can leak. `allocate` is called after validation and admission.
    """

    _PENDING_SECONDS = 30.0

    def __init__(self, cidr: str = "10.0.0.0/24", node_ports: tuple[int, int] = (30000, 32767)) -> None:
        self.network = ipaddress.ip_network(cidr)
        self.node_ports = node_ports
        self.family = "IPv4" if self.network.version == 4 else "IPv6"
        self._pending: dict[str, tuple[float, Obj]] = {}
        """uid -> (when to forget, the Service as it is being written)."""

    def allocate(
        self,
        obj: Obj,
        old: Obj | None,
        services: Iterable[Obj],
        ranges: Iterable[Obj] = (),
        *,
        dry_run: bool = False,
    ) -> list[FieldError]:
        """Fill families, addresses and ports in `obj`; errors when what was asked for can't be had.

        `ranges` are the ServiceCIDRs; the server's own range counts in any case. A dry run takes nothing and gets
        values that stand for those to come: the first address of the range, ports from 32769 on. Raises ApiError when
        nothing is left.
        """
        spec = obj["spec"]
        if spec.get("type") not in _ALLOCATING:
            return []
        errors = self._families(spec)
        if errors:
            return errors
        uid = obj["metadata"].get("uid") or ""
        others = [s for s in services if s["metadata"].get("uid") != uid]
        now = time.monotonic()
        for other, (until, service) in list(self._pending.items()):
            if until < now:
                del self._pending[other]
            elif other != uid:
                others.append(service)
        networks = [self.network]
        for cidr in _ready(ranges):
            network = ipaddress.ip_network(cidr)
            if network.version == self.network.version and network not in networks:
                networks.append(network)
        errors = self._address(spec, old, others, networks, dry_run) or self._ports(spec, old, others, dry_run)
        if not errors and not dry_run:
            self._pending[uid] = (now + self._PENDING_SECONDS, {"metadata": {"uid": uid}, "spec": _claims(spec)})
        return errors

    def settle(self, uid: str) -> None:
        """A Service has been written, or won't be: from now on what is stored says what is taken."""
        self._pending.pop(uid, None)

    def _families(self, spec: Obj) -> list[FieldError]:
        headless_bare = spec.get("clusterIP") == "None" and not spec.get("selector")
        policy, families = spec.get("ipFamilyPolicy"), list(spec.get("ipFamilies") or ())
        errors = []
        if not headless_bare:
            for index, family in enumerate(families):
                if family in ("IPv4", "IPv6") and family != self.family:
                    errors.append(
                        FieldError(
                            f"spec.ipFamilies[{index}]",
                            "FieldValueInvalid",
                            f"Invalid value: {json.dumps(family)}: not configured on this cluster",
                        )
                    )
            if policy == "RequireDualStack":
                errors.append(
                    FieldError(
                        "spec.ipFamilyPolicy",
                        "FieldValueInvalid",
                        'Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services',
                    )
                )
            if errors:
                return errors
        if headless_bare and not policy:
            policy = "SingleStack" if len(families) == 1 else "RequireDualStack"
        if not policy:
            policy = "RequireDualStack" if len(families) == 2 else "SingleStack"
        if not families:
            given = [ip for ip in spec.get("clusterIPs") or () if ip != "None"]
            families = ["IPv6" if ":" in ip else "IPv4" for ip in given] or [self.family]
        if policy in ("RequireDualStack", "PreferDualStack") and len(families) == 1 and headless_bare:
            families.append("IPv6" if families[0] == "IPv4" else "IPv4")
        spec["ipFamilies"], spec["ipFamilyPolicy"] = families, policy
        return []

    def _address(
        self, spec: Obj, old: Obj | None, others: list[Obj], networks: list[_Network], dry_run: bool
    ) -> list[FieldError]:
        ip = spec.get("clusterIP")
        if ip == "None":
            spec["clusterIPs"] = ["None"]
            return []
        if old is not None and ip and (old["spec"].get("clusterIP") or "") == ip:
            return []
        taken = {a for s in others for a in s["spec"].get("clusterIPs") or [s["spec"].get("clusterIP")]}
        if ip:
            problem = self._dry_refusal(ip) if dry_run else _refusal(ip, taken, networks)
            if problem:
                shown = json.dumps([ip])
                return [
                    FieldError(
                        "spec.clusterIPs",
                        "FieldValueInvalid",
                        f"Invalid value: {shown}: failed to allocate IP {ip}: {problem}",
                    )
                ]
        else:
            ip = str(self.network.network_address) if dry_run else _free(taken, networks)
        spec["clusterIP"], spec["clusterIPs"] = ip, [ip]
        return []

    def _dry_refusal(self, ip: str) -> str:
        return "" if _usable(ip, self.network) else _not_in(ip, self.network)

    def _ports(self, spec: Obj, old: Obj | None, others: list[Obj], dry_run: bool) -> list[FieldError]:
        if spec["type"] not in ("NodePort", "LoadBalancer"):
            return []
        taken: set[int] = set()
        for one in others:
            taken.update(port["nodePort"] for port in one["spec"].get("ports") or () if port.get("nodePort"))
            if one["spec"].get("healthCheckNodePort"):
                taken.add(one["spec"]["healthCheckNodePort"])
        turn = _Ports(self.node_ports, taken, dry_run)
        allocates = spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts") is not False
        before = {port["nodePort"] for port in (old or {}).get("spec", {}).get("ports") or () if port.get("nodePort")}
        turn.own |= before
        by_port: dict[int, int] = {}
        for index, port in enumerate(spec.get("ports") or ()):
            number = port.get("nodePort") or 0
            if not number and not allocates:
                continue
            if old is None:
                given = by_port.get(port["port"], 0)
                asked = given or _asked(port["port"], spec["ports"])
                number = number if given and number else asked
                known = given and number == given
            else:
                known = number in before or number in by_port.values()
            if number and not known:
                problem = turn.take(number)
                if problem:
                    path = f"spec.ports[{index}].nodePort"
                    return [FieldError(path, "FieldValueInvalid", f"Invalid value: {number}: {problem}")]
            elif not number:
                number = turn.next("failed to allocate a nodePort: ")
            port["nodePort"] = number
            by_port.setdefault(port["port"] if old is None else number, number)
        if _needs_health_port(spec):
            self._health_port(spec, old, turn)
        return []

    @staticmethod
    def _health_port(spec: Obj, old: Obj | None, turn: _Ports) -> None:
        number = spec.get("healthCheckNodePort")
        if not number:
            spec["healthCheckNodePort"] = turn.next("failed to allocate a HealthCheck NodePort 0: ")
        elif old is None or not _needs_health_port(old["spec"]):
            problem = turn.take(number)
            if problem:
                raise refusals.internal(f"failed to allocate requested HealthCheck NodePort {number}: {problem}")


def _asked(port: int, ports: list[Obj]) -> int:
    """The node port that a client gave one of a Service's ports of this number."""
    return next((one["nodePort"] for one in ports if one.get("port") == port and one.get("nodePort")), 0)


class _Ports:
    """The node ports that one write takes."""

    _FIRST_DRY = 32769

    def __init__(self, span: tuple[int, int], taken: set[int], dry_run: bool) -> None:
        self.span = span
        self.taken = taken
        self.dry_run = dry_run
        self.own: set[int] = set()
        self._now: set[int] = set()

    def take(self, number: int) -> str:
        """Take this one; why it can't be had, or nothing."""
        low, high = self.span
        if not self.dry_run and not low <= number <= high:
            return f"provided port is not in the valid range. The range of valid ports is {low}-{high}"
        if number in self.taken or number in self.own:
            return "provided port is already allocated"
        self.own.add(number)
        self._now.add(number)
        return ""

    def next(self, failing: str) -> int:
        """Take any. Raises ApiError when none is left."""
        low, high = self.span
        if self.dry_run:
            number = max(self._now) + 1 if self._now else self._FIRST_DRY
            self._now.add(number)
            return number
        start = secrets.randbelow(high - low + 1)
        for step in range(high - low + 1):
            number = low + (start + step) % (high - low + 1)
            if number not in self.taken and number not in self.own:
                self.own.add(number)
                return number
        raise refusals.internal(f"{failing}range is full")


def _usable(ip: str, network: _Network) -> bool:
    return ipaddress.ip_address(ip) in network and ipaddress.ip_address(ip) not in {
        network.network_address,
        network.broadcast_address,
    }


def _not_in(ip: str, network: _Network) -> str:
    return f"the provided IP ({ip}) is not in the valid range. The range of valid IPs is {network}"


def _refusal(ip: str, taken: set[str | None], networks: list[_Network]) -> str:
    around = [network for network in networks if ipaddress.ip_address(ip) in network]
    if not around:
        return "the provided network does not match the current range"
    if not any(_usable(ip, network) for network in around):
        return _not_in(ip, around[0])
    return "provided IP is already allocated" if ip in taken else ""


def _free(taken: set[str | None], networks: list[_Network]) -> str:
    """An address of the first range that has one. Raises ApiError when none has."""
    for network in networks:
        size = min(network.num_addresses - 2, 1 << 16)
        first = min(max(16, size // 16), 256) if size > 32 else 0
        for low, high in ((first, size), (0, first)):
            if high <= low:
                continue
            start = secrets.randbelow(high - low)
            for step in range(high - low):
                ip = str(network.network_address + 1 + low + (start + step) % (high - low))
                if ip not in taken:
                    return ip
    raise refusals.internal("failed to allocate a serviceIP: range is full")
