"""Warnings about pods and templates of pods: what is accepted, but suspicious or on its way out.

Source: observed Warning headers of kube-apiserver 1.36, the documentation of deprecated labels and volumes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chandlery.controlplane.builtins import quantity
from chandlery.controlplane.metadata import label_value_errors
from chandlery.controlplane.types import Obj

OLD_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
"""Labels of nodes that have other names today."""

_OLD_NOTES = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
OLD_VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
"""Sources of volumes that no node knows any more."""

_NO_POD = "a null labelSelector results in matching no pod"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_TEXT = 'non-functional in v1.27+; use the "seccompProfile" field instead'
_APPARMOR_TEXT = 'deprecated since v1.30; use the "appArmorProfile" field instead'


def old_volumes(found: Obj, path: str) -> list[str]:
    """Sources of one volume that are gone."""
    shown = {"storageos": "storageOS"}
    return [f"{path}.{shown.get(kind, kind)}: {text}" for kind, text in OLD_VOLUMES.items() if kind in found]


def selector_term(term: Obj, path: str, *, values: bool) -> list[str]:
    """Old labels in a term of a node selector; `values` tells of invalid ones too."""
    found = []
    for index, rule in enumerate(term.get("matchExpressions") or ()):
        here, key = f"{path}.matchExpressions[{index}]", rule.get("key", "")
        if key in OLD_LABELS:
            found.append(f"{here}.key: {key} is {OLD_LABELS[key]}")
        for number, value in enumerate(rule.get("values") or ()) if values else ():
            found += [f"{here}.values[{number}]: {value} is invalid, {text}" for text in label_value_errors(value)]
    return found


def fractions(found: Any, path: str, names: tuple[str, ...] = ("memory", "ephemeral-storage")) -> list[str]:
    """Amounts of bytes that are no whole number."""
    out = []
    for name in names:
        text = (found or {}).get(name)
        if text is not None and quantity.parse(text)[0].denominator != 1:
            out.append(f'{path}[{name}]: fractional byte value "{text}" is invalid, must be an integer')
    return out


def claim_spec(spec: Obj, path: str) -> list[str]:
    """Warnings about the spec of a PersistentVolumeClaim."""
    resources = spec.get("resources") or {}
    return [
        text
        for field in ("requests", "limits")
        for text in fractions(resources.get(field), f"{path}.resources.{field}", ("storage",))
    ]


def _containers(spec: Obj, path: str) -> Iterator[tuple[Obj, str]]:
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for index, one in enumerate(spec.get(group) or ()):
            yield one, f"{path}.{group}[{index}]"


def _places(spec: Obj, path: str) -> list[str]:
    """Where the pod may go: labels of nodes, and selectors that select nothing."""
    found = [f"{path}.nodeSelector[{k}]: {OLD_LABELS[k]}" for k in spec.get("nodeSelector") or () if k in OLD_LABELS]
    affinity = spec.get("affinity") or {}
    node, here = affinity.get("nodeAffinity") or {}, f"{path}.affinity.nodeAffinity"
    needed, wished = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
    for index, term in enumerate((node.get(needed) or {}).get("nodeSelectorTerms") or ()):
        found += selector_term(term, f"{here}.{needed}.nodeSelectorTerms[{index}]", values=False)
    for index, term in enumerate(node.get(wished) or ()):
        found += selector_term(term.get("preference") or {}, f"{here}.{wished}[{index}].preference", values=True)
    for index, one in enumerate(spec.get("topologySpreadConstraints") or ()):
        where, key = f"{path}.topologySpreadConstraints[{index}]", one.get("topologyKey")
        if key in OLD_LABELS:
            found.append(f"{where}.topologyKey: {key} is {OLD_LABELS[key]}")
        if one.get("labelSelector") is None:
            found.append(f"{where}.labelSelector: {_NO_POD}")
    for kind in ("podAffinity", "podAntiAffinity"):
        for index, term in enumerate((affinity.get(kind) or {}).get(needed) or ()):
            if term.get("labelSelector") is None:
                found.append(f"{path}.affinity.{kind}.{needed}[{index}].labelSelector: {_NO_POD}")
        for index, term in enumerate((affinity.get(kind) or {}).get(wished) or ()):
            if (term.get("podAffinityTerm") or {}).get("labelSelector") is None:
                found.append(f"{path}.affinity.{kind}.{wished}[{index}].podAffinityTerm.labelSelector: {_NO_POD}")
    return found


def _volumes(spec: Obj, path: str) -> list[str]:
    found: list[str] = []
    volumes = spec.get("volumes") or ()
    for index, volume in enumerate(volumes):
        here = f"{path}.volumes[{index}]"
        found += old_volumes(volume, here)
        template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
        if template is not None:
            found += claim_spec(template.get("spec") or {}, f"{here}.ephemeral.volumeClaimTemplate.spec")
    for volume in volumes:
        found += _overlaps(volume)
    return found


def _overlaps(volume: Obj) -> list[str]:
    """Files of one volume that would lie at, or below, each other."""
    name = volume.get("name", "")
    found: list[str] = []

    def check(groups: list[tuple[str, Any]], what: str) -> None:
        seen: list[tuple[str, str]] = []
        for source, items in groups:
            for item in items or ():
                path = item.get("path", "").rstrip("/")
                own = f'"{path}"' + (f" ({source})" if source else "")
                for other, text in seen:
                    if path and other and (f"{other}/".startswith(f"{path}/") or f"{path}/".startswith(f"{other}/")):
                        found.append(f'volume "{name}" ({what}): overlapping paths: {own} with {text}')
                seen.append((path, own))

    for kind, title, field in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
        if kind in volume:
            check([("", volume[kind].get("items"))], f'{title} "{volume[kind].get(field, "")}"')
    if "downwardAPI" in volume:
        check([("", volume["downwardAPI"].get("items"))], "DownwardAPI")
    if "projected" in volume:
        groups: list[tuple[str, Any]] = []
        for source in volume["projected"].get("sources") or ():
            if not source:
                found.append(f'volume "{name}" (Projected) has no sources provided')
            for kind, title in (("configMap", "ConfigMap"), ("secret", "Secret")):
                if kind in source:
                    groups.append((f'{title} "{source[kind].get("name", "")}"', source[kind].get("items")))
            if "downwardAPI" in source:
                groups.append(("DownwardAPI", source["downwardAPI"].get("items")))
            if "serviceAccountToken" in source:
                groups.append(("ServiceAccountToken", [source["serviceAccountToken"]]))
        check(groups, "Projected")
    return found


def _repeated(spec: Obj, path: str) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        if alias.get("ip", "") in seen:
            found.append(f'{path}.hostAliases[{index}].ip: duplicate ip "{alias.get("ip", "")}"')
        seen.add(alias.get("ip", ""))
    seen = set()
    secrets = spec.get("imagePullSecrets") or ()
    for index, secret in enumerate(secrets):
        if secret.get("name", "") in seen:
            found.append(f'{path}.imagePullSecrets[{index}].name: duplicate name "{secret.get("name", "")}"')
        seen.add(secret.get("name", ""))
    for index, secret in enumerate(secrets):
        if not secret.get("name"):
            found.append(f'{path}.imagePullSecrets[{index}].name: invalid empty name ""')
    return found


def _environment(found: Any, path: str) -> list[str]:
    out = []
    seen: set[str] = set()
    for index, variable in enumerate(found or ()):
        name, value = variable.get("name", ""), variable.get("value") or ""
        before = f"$({name})"
        if name in seen and (variable.get("valueFrom") is not None or value == before or before not in value):
            text = f'hides previous definition of "{name}", which may be dropped when using apply'
            out.append(f"{path}.env[{index}]: {text}")
        seen.add(name)
    return out


def _ports(spec: Obj, path: str) -> list[str]:
    """Ports that two containers, or one twice, would use; names of ports that mean two of them."""
    found: list[str] = []
    taken: dict[tuple[Any, Any], list[tuple[str, Obj]]] = {}
    for one, where in _containers(spec, path):
        for index, port in enumerate(one.get("ports") or ()):
            here, ip, host = f"{where}.ports[{index}]", port.get("hostIP", ""), port.get("hostPort", 0)
            if ip and not host:
                found.append(f"{here}: hostIP set without hostPort: {_shown(port)}")
            others = taken.setdefault((port.get("containerPort", 0), port.get("protocol", "")), [])
            for other, known in others:
                other_ip, other_host = known.get("hostIP", ""), known.get("hostPort", 0)
                if (ip, host) == (other_ip, other_host):
                    found.append(f"{here}: duplicate port definition with {other}")
                elif not host or not other_host:
                    found.append(f"{here}: overlapping port definition with {other}")
                elif host == other_host and (not ip or not other_ip):
                    found.append(f"{here}: dangerously ambiguous port definition with {other}")
            others.append((here, port))
    names: dict[str, str] = {}
    for one, where in _containers(spec, path):
        for index, port in enumerate(one.get("ports") or ()):
            name, here = port.get("name", ""), f"{where}.ports[{index}]"
            first = names.setdefault(name, here)
            if name and first != here:
                text = f"services and probes that select ports by name will use {first}"
                found.append(f'{here}: duplicate port name "{name}" with {first}, {text}')
    return found


def _shown(port: Obj) -> str:
    """A container's port as the real server prints it."""
    fields = (("Name", ""), ("HostPort", 0), ("ContainerPort", 0), ("Protocol", ""), ("HostIP", ""))
    values = (f"{field}:{port.get(field[0].lower() + field[1:], empty)}" for field, empty in fields)
    return "{" + " ".join(values) + "}"


def _profiles(meta: Obj, spec: Obj, path: str, *, template: bool) -> list[str]:
    """Annotations that fields took the place of."""
    notes = meta.get("annotations") or {}
    here = f"{path}metadata.annotations"
    found = [f"{here}[{key}]: {text}" for key, text in _OLD_NOTES.items() if key in notes]
    whole = spec.get("securityContext") or {}
    if _SECCOMP_POD in notes and not whole.get("seccompProfile"):
        found.append(f"{here}[{_SECCOMP_POD}]: {_SECCOMP_TEXT}")
    for one, _ in _containers(spec, ""):
        own, name = one.get("securityContext") or {}, one.get("name", "")
        if _SECCOMP_CONTAINER + name in notes and not own.get("seccompProfile"):
            found.append(f"{here}[{_SECCOMP_CONTAINER}{name}]: {_SECCOMP_TEXT}")
        note = notes.get(_APPARMOR + name)
        plain = note is not None and not own.get("appArmorProfile")
        if template and plain and whole.get("appArmorProfile") != _meant(note or ""):
            found.append(f"{here}[{_APPARMOR}{name}]: {_APPARMOR_TEXT}")
    return found


def take_profiles(pod: Obj) -> list[str]:
    """Put the AppArmor profiles that a new pod's annotations name into its containers; what to warn of."""
    notes, spec = pod["metadata"].get("annotations") or {}, pod.get("spec") or {}
    if (spec.get("os") or {}).get("name") == "windows":
        return []
    found = []
    whole = (spec.get("securityContext") or {}).get("appArmorProfile")
    for one, _ in _containers(spec, ""):
        key = _APPARMOR + one.get("name", "")
        if key not in notes or (one.get("securityContext") or {}).get("appArmorProfile"):
            continue
        profile = _meant(notes[key])
        if profile is not None and profile == whole:
            continue
        if profile is not None:
            one["securityContext"] = {**(one.get("securityContext") or {}), "appArmorProfile": profile}
        found.append(f"metadata.annotations[{key}]: {_APPARMOR_TEXT}")
    return found


def _meant(note: str) -> Obj | None:
    """The profile that an annotation names."""
    local = note.removeprefix("localhost/")
    if local != note:
        return {"type": "Localhost", "localhostProfile": local} if local.strip() == local != "" else None
    kind = {"runtime/default": "RuntimeDefault", "unconfined": "Unconfined"}.get(note)
    return None if kind is None else {"type": kind}


def warnings(meta: Obj, spec: Obj, where: str = "") -> list[str]:
    """Warnings about a pod; `where` is the path of a template, with a dot at its end, and empty for a pod itself."""
    path = f"{where}spec"
    found = _places(spec, path) + _profiles(meta, spec, where, template=bool(where))
    found += _volumes(spec, path) + _repeated(spec, path)
    found += fractions(spec.get("overhead"), f"{path}.overhead")
    for one, here in _containers(spec, path):
        for field in ("limits", "requests"):
            found += fractions((one.get("resources") or {}).get(field), f"{here}.resources.{field}")
        found += _environment(one.get("env"), here)
    found += _ports(spec, path)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        text = "must be >= 0; negative values are invalid and will be treated as 1"
        found.append(f"{path}.terminationGracePeriodSeconds: {text}")
    return found
