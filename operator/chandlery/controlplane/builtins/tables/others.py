"""Cells of the kinds that are no workloads."""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins.tables import text
from chandlery.controlplane.types import Obj


def default(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], obj["metadata"].get("creationTimestamp")]


def namespace(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], (obj.get("status") or {}).get("phase", ""), text.age(obj)]


def secret(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], obj.get("type", ""), len(obj.get("data") or ()), text.age(obj)]


def config_map(obj: Obj) -> list[Any]:
    count = len(obj.get("data") or ()) + len(obj.get("binaryData") or ())
    return [obj["metadata"]["name"], count, text.age(obj)]


def service_account(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], len(obj.get("secrets") or ()), text.age(obj)]


def _ingress_points(status: Any) -> list[str]:
    points = ((status or {}).get("loadBalancer") or {}).get("ingress") or ()
    return sorted({p.get("ip") or p.get("hostname") or "" for p in points} - {""})


def _external(obj: Obj) -> str:
    spec = obj["spec"]
    kind, extra = spec.get("type"), list(spec.get("externalIPs") or ())
    if kind in ("ClusterIP", "NodePort"):
        return ",".join(extra) or text.NONE
    if kind == "LoadBalancer":
        return ",".join(_ingress_points(obj.get("status")) + extra) or "<pending>"
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    return text.UNKNOWN


def service(obj: Obj) -> list[Any]:
    spec = obj["spec"]
    ports = []
    for port in spec.get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        ports.append(f"{port.get('port', 0)}{node}/{port.get('protocol', '')}")
    return [
        obj["metadata"]["name"],
        spec.get("type", ""),
        (spec.get("clusterIPs") or [text.NONE])[0],
        _external(obj),
        ",".join(ports) or text.NONE,
        text.age(obj),
        text.labels(spec.get("selector")),
    ]


def _joined(ip: str, port: Any) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def endpoints(obj: Obj) -> list[Any]:
    found = []
    for subset in obj.get("subsets") or ():
        ports = subset.get("ports") or ()
        addresses = subset.get("addresses") or ()
        if not ports:
            found += [a.get("ip", "") for a in addresses]
        for port in ports:
            found += [_joined(a.get("ip", ""), port.get("port", 0)) for a in addresses]
    shown = text.first_of(found, 3) if obj.get("subsets") else text.NONE
    return [obj["metadata"]["name"], shown, text.age(obj)]


def endpoint_slice(obj: Obj) -> list[Any]:
    ports = [str(p["port"]) if p.get("port") is not None else "*" for p in obj.get("ports") or ()]
    addresses = [a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()]
    return [
        obj["metadata"]["name"],
        obj.get("addressType", ""),
        text.first_of(ports, 3) if ports else text.UNSET,
        text.first_of(addresses, 3) if addresses else text.UNSET,
        text.age(obj),
    ]


def node(obj: Obj) -> list[Any]:
    status, meta = obj.get("status") or {}, obj["metadata"]
    ready = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if (obj.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    roles = set()
    for key, value in (meta.get("labels") or {}).items():
        if key.startswith("node-role.kubernetes.io/") and key != "node-role.kubernetes.io/":
            roles.add(key.partition("/")[2])
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    info = status.get("nodeInfo") or {}

    def address(kind: str) -> str:
        found = (a.get("address") for a in status.get("addresses") or () if a.get("type") == kind)
        return next(found, None) or text.NONE

    return [
        meta["name"],
        ",".join(words),
        ",".join(sorted(roles)) or text.NONE,
        text.age(obj),
        info.get("kubeletVersion", ""),
        address("InternalIP"),
        address("ExternalIP"),
        info.get("osImage") or text.UNKNOWN,
        info.get("kernelVersion") or text.UNKNOWN,
        info.get("containerRuntimeVersion") or text.UNKNOWN,
    ]


def event(obj: Obj) -> list[Any]:
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or first
    count = obj.get("count") or 1
    series = obj.get("series")
    if series:
        last, count = series.get("lastObservedTime") or last, series.get("count", 0)
    about = obj.get("involvedObject") or {}
    kind, name = about.get("kind", "").lower(), about.get("name", "")
    source = obj.get("source") or {}
    component = source.get("component") or obj.get("reportingComponent") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    return [
        text.since(last),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{kind}/{name}" if name else kind,
        about.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        obj.get("message", "").strip(),
        text.since(first),
        count,
        obj["metadata"]["name"],
    ]


def event_new(obj: Obj) -> list[Any]:
    from chandlery.controlplane.builtins.convert import event_to_core

    return event(event_to_core(obj))


def resource_quota(obj: Obj) -> list[Any]:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    columns: dict[bool, list[str]] = {False: [], True: []}
    for name in sorted(hard):
        columns[name.startswith("limits.")].append(f"{name}: {used.get(name, '0')}/{hard[name]}")
    return [obj["metadata"]["name"], ", ".join(columns[False]), ", ".join(columns[True]), text.age(obj)]


def _class_of(obj: Obj) -> str:
    beta = (obj["metadata"].get("annotations") or {}).get("volume.beta.kubernetes.io/storage-class")
    return str(beta if beta is not None else obj["spec"].get("storageClassName") or "")


def persistent_volume(obj: Obj) -> list[Any]:
    spec, status, meta = obj["spec"], obj.get("status") or {}, obj["metadata"]
    claim = spec.get("claimRef")
    return [
        meta["name"],
        (spec.get("capacity") or {}).get("storage", "0"),
        text.access_modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        "Terminating" if meta.get("deletionTimestamp") else status.get("phase", ""),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _class_of(obj),
        spec.get("volumeAttributesClassName") or text.UNSET,
        status.get("reason", ""),
        text.age(obj),
        spec.get("volumeMode") or text.UNSET,
    ]


def persistent_volume_claim(obj: Obj) -> list[Any]:
    spec, status, meta = obj["spec"], obj.get("status") or {}, obj["metadata"]
    bound = bool(spec.get("volumeName"))
    return [
        meta["name"],
        "Terminating" if meta.get("deletionTimestamp") else status.get("phase", ""),
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", "0") if bound else "",
        text.access_modes(status.get("accessModes") or ()) if bound else "",
        _class_of(obj),
        spec.get("volumeAttributesClassName") or text.UNSET,
        text.age(obj),
        spec.get("volumeMode") or text.UNSET,
    ]


def disruption_budget(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}

    def shown(field: str) -> str:
        return str(spec[field]) if spec.get(field) is not None else "N/A"

    allowed = (obj.get("status") or {}).get("disruptionsAllowed", 0)
    return [obj["metadata"]["name"], shown("minAvailable"), shown("maxUnavailable"), allowed, text.age(obj)]


def ingress(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    rules = spec.get("rules") or ()
    hosts = [r["host"] for r in rules if r.get("host")][:3]
    shown = ",".join(hosts) or "*"
    if hosts and len(rules) > 3:
        shown += f" + {len(rules) - 3} more..."
    return [
        obj["metadata"]["name"],
        spec.get("ingressClassName") or text.NONE,
        shown,
        ",".join(_ingress_points(obj.get("status"))),
        "80, 443" if spec.get("tls") else "80",
        text.age(obj),
    ]


def ingress_class(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    parameters = spec.get("parameters")
    shown = text.NONE
    if parameters:
        group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") else ""
        shown = f"{parameters.get('kind', '')}{group}/{parameters.get('name', '')}"
    return [obj["metadata"]["name"], spec.get("controller", ""), shown, text.age(obj)]


def network_policy(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], text.selector((obj.get("spec") or {}).get("podSelector")), text.age(obj)]


def binding(obj: Obj) -> list[Any]:
    users, groups, accounts = [], [], []
    for subject in obj.get("subjects") or ():
        if subject.get("kind") == "ServiceAccount":
            accounts.append(f"{subject.get('namespace', '')}/{subject.get('name', '')}")
        elif subject.get("kind") == "Group":
            groups.append(subject.get("name", ""))
        elif subject.get("kind") == "User":
            users.append(subject.get("name", ""))
    role = obj.get("roleRef") or {}
    return [
        obj["metadata"]["name"],
        f"{role.get('kind', '')}/{role.get('name', '')}",
        text.age(obj),
        ", ".join(users),
        ", ".join(groups),
        ", ".join(accounts),
    ]


def component_status(obj: Obj) -> list[Any]:
    status, message, error = "Unknown", "", ""
    for condition in obj.get("conditions") or ():
        if condition.get("type") == "Healthy":
            status = "Healthy" if condition.get("status") == "True" else "Unhealthy"
            message, error = condition.get("message", ""), condition.get("error", "")
    return [obj["metadata"]["name"], status, message, error]


def lease(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], (obj.get("spec") or {}).get("holderIdentity") or "", text.age(obj)]


def storage_class(obj: Obj) -> list[Any]:
    meta = obj["metadata"]
    notes = meta.get("annotations") or {}
    main = any(notes.get(f"storageclass{beta}.kubernetes.io/is-default-class") == "true" for beta in ("", ".beta"))
    return [
        f"{meta['name']} (default)" if main else meta["name"],
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        text.age(obj),
    ]


def priority_class(obj: Obj) -> list[Any]:
    return [
        obj["metadata"]["name"],
        obj.get("value", 0),
        bool(obj.get("globalDefault")),
        text.age(obj),
        obj.get("preemptionPolicy") or "",
    ]


def webhooks(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], len(obj.get("webhooks") or ()), text.age(obj)]


def admission_policy(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    kind = spec.get("paramKind")
    shown = f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else "<unset>"
    return [obj["metadata"]["name"], len(spec.get("validations") or spec.get("mutations") or ()), shown, text.age(obj)]


def admission_policy_binding(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    ref = spec.get("paramRef")
    shown = "<unset>"
    if ref and ref.get("name"):
        shown = f"{ref['namespace']}/{ref['name']}" if ref.get("namespace") else f"*/{ref['name']}"
    elif ref:
        shown = "<selector>"
    return [obj["metadata"]["name"], spec.get("policyName", ""), shown, text.age(obj)]


def api_service(obj: Obj) -> list[Any]:
    reference = (obj.get("spec") or {}).get("service")
    where = f"{reference.get('namespace', '')}/{reference.get('name', '')}" if reference else "Local"
    available = "Unknown"
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Available":
            available = condition.get("status", "")
            if available != "True":
                available = f"{available} ({condition.get('reason', '')})"
    return [obj["metadata"]["name"], where, available, text.age(obj)]
