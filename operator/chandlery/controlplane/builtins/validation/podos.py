"""What a pod may ask of its operating system: Windows options, `os`, profiles named by annotations, resource claims.

Source: the field descriptions of core/v1 and of the annotations that came before the fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from chandlery.controlplane.builtins.validation.common import (
    Errors,
    dns_label,
    dns_subdomain,
    duplicate,
    each,
    forbidden,
    invalid,
    invalid_struct,
    required,
    unsupported,
)
from chandlery.controlplane.metadata import subdomain_errors
from chandlery.controlplane.types import Obj

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_NETBIOS = re.compile(r'[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}')
_DOMAIN = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*")
_BAD_USER = re.compile(r'["/\\:;|=,\+\*\?<>@\[\]]')
_CREDENTIAL_KIB = 64
_CLAIM = "io.k8s.api.core.v1.PodResourceClaim"
_NOT_WINDOWS = "cannot be set for a windows pod"
_NOT_LINUX = "windows options cannot be set for a linux pod"
_WINDOWS_POD = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
)
_WINDOWS_CONTAINER = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)


def all_containers(spec: Obj, path: str) -> Iterator[tuple[Obj, str]]:
    """Every container of a pod with its path."""
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for index, one in enumerate(spec.get(group) or ()):
            yield one, f"{path}.{group}[{index}]"


def windows_options(found: Any, path: str) -> Errors:
    """`windowsOptions` of a pod's or a container's security context."""
    if not found:
        return []
    errors: Errors = []
    name, text = found.get("gmsaCredentialSpecName"), found.get("gmsaCredentialSpec")
    if name is not None:
        errors += dns_subdomain(f"{path}.gmsaCredentialSpecName", name)
    if text is not None:
        here = f"{path}.gmsaCredentialSpec"
        if not text:
            errors.append(invalid(here, text, "gmsaCredentialSpec cannot be an empty string"))
        elif len(text.encode()) > _CREDENTIAL_KIB * 1024:
            errors.append(invalid(here, text, f"gmsaCredentialSpec size must be under {_CREDENTIAL_KIB} KiB"))
    user = found.get("runAsUserName")
    if user is not None:
        errors += each(f"{path}.runAsUserName", user, _user_name(user))
    return errors


def _user_name(name: str) -> list[str]:
    """`USER`, or a domain and a user with a backslash between them."""
    if not name:
        return ["runAsUserName cannot be an empty string"]
    if _CONTROL.search(name):
        return ["runAsUserName cannot contain control characters"]
    parts = name.split("\\")
    if len(parts) > 2:
        return ["runAsUserName cannot contain more than one backslash"]
    problems = []
    user = parts[-1]
    if len(parts) == 2:
        domain = parts[0]
        if len(domain.encode()) >= 256:
            problems.append("runAsUserName's Domain length must be under 256 characters")
        if not (_NETBIOS.fullmatch(domain) or _DOMAIN.fullmatch(domain)):
            problems.append("runAsUserName's Domain doesn't match the NetBios nor the DNS format")
    if not user:
        problems.append("runAsUserName's User cannot be empty")
    elif len(user.encode()) > 104:
        problems.append("runAsUserName's User length must not be longer than 104 characters")
    if user and not user.strip(". "):
        problems.append("runAsUserName's User cannot contain only periods or spaces")
    if _BAD_USER.search(user):
        problems.append("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return problems


def _host_process(holder: Obj) -> bool | None:
    found: bool | None = ((holder.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess")
    return found


def host_process(spec: Obj, path: str) -> Errors:
    """Either all containers are host processes or none is."""
    errors: Errors = []
    whole = _host_process(spec)
    count = hosts = 0
    for one, here in all_containers(spec, path):
        count += 1
        own = _host_process(one)
        if whole is not None and own is not None and whole != own:
            text = f"pod hostProcess value must be identical if both are specified, was {str(whole).lower()}"
            errors.append(invalid(f"{here}.securityContext.windowsOptions.hostProcess", own, text))
        hosts += bool(own or (own is None and whole))
    if not hosts:
        return errors
    if hosts != count:
        text = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        errors.append(invalid(path, "", text))
    if not spec.get("hostNetwork"):
        text = "hostNetwork must be true if pod contains any hostProcess containers"
        errors.append(invalid(f"{path}.hostNetwork", False, text))
    return [*errors, forbidden(path, "hostProcess containers are disallowed by cluster policy")]


def operating_system(spec: Obj, path: str) -> Errors:
    """`os`, and what its name rules out."""
    if spec.get("os") is None:
        return []
    name = spec["os"].get("name", "")
    if not name:
        return [required(f"{path}.os.name", "cannot be empty")]
    if name not in ("linux", "windows"):
        return [unsupported(f"{path}.os", name, ("linux", "windows"))]
    context = spec.get("securityContext") or {}
    here = f"{path}.securityContext"
    errors: Errors = []
    if name == "linux":
        if context.get("windowsOptions") is not None:
            errors.append(forbidden(f"{here}.windowsOptions", _NOT_LINUX))
        for one, where in all_containers(spec, path):
            if (one.get("securityContext") or {}).get("windowsOptions") is not None:
                errors.append(forbidden(f"{where}.securityContext.windowsOptions", _NOT_LINUX))
        return errors
    errors += [forbidden(f"{here}.{field}", _NOT_WINDOWS) for field in _WINDOWS_POD if _given(context, field)]
    for field in ("hostUsers", "shareProcessNamespace"):
        if spec.get(field) is not None:
            errors.append(forbidden(f"{path}.{field}", _NOT_WINDOWS))
    errors += [forbidden(f"{path}.{field}", _NOT_WINDOWS) for field in ("hostPID", "hostIPC") if spec.get(field)]
    for one, where in all_containers(spec, path):
        own = one.get("securityContext") or {}
        errors += [
            forbidden(f"{where}.securityContext.{field}", _NOT_WINDOWS)
            for field in _WINDOWS_CONTAINER
            if own.get(field) is not None
        ]
    return errors


def _given(context: Obj, field: str) -> bool:
    return bool(context.get(field)) if field == "sysctls" else context.get(field) is not None


_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"


def meaningful_annotations(meta: Obj, spec: Obj, path: str) -> Errors:
    """Annotations of a pod (or of a template) that have a meaning; `path` is that of the annotations."""
    notes: dict[str, str] = meta.get("annotations") or {}
    errors: Errors = []
    names = {one.get("name") for one, _ in all_containers(spec, "")}
    for key, value in notes.items():
        if key.startswith(_APPARMOR):
            name = key.removeprefix(_APPARMOR)
            if name not in names:
                errors.append(invalid(f"{path}[{key}]", name, "container not found"))
            if value not in ("", "runtime/default", "unconfined") and not value.startswith("localhost/"):
                quoted = value.replace("\\", "\\\\").replace('"', '\\"')
                errors.append(invalid(f"{path}[{key}]", value, f'invalid AppArmor profile name: "{quoted}"'))
        elif key == _SECCOMP_POD or key.startswith(_SECCOMP_CONTAINER):
            if value in ("runtime/default", "docker/default", "unconfined"):
                continue
            if not value.startswith("localhost/"):
                errors.append(invalid(f"{path}.{key}", value, "must be a valid seccomp profile"))
    cost = notes.get("controller.kubernetes.io/pod-deletion-cost")
    if cost is not None and not (re.fullmatch(r"-?(0|[1-9][0-9]*)", cost) and -(2**31) <= int(cost) < 2**31):
        text = "must be a 32bit integer"
        errors.append(invalid(f"{path}[controller.kubernetes.io/pod-deletion-cost]", cost, text))
    return errors


def annotations_match(meta: Obj, spec: Obj, path: str) -> Errors:
    """A profile that is told by annotation and by field must be the same in both; `path` is that of the spec."""
    notes: dict[str, str] = meta.get("annotations") or {}
    errors: Errors = []
    whole = spec.get("securityContext") or {}
    if whole.get("seccompProfile") and _SECCOMP_POD in notes:
        here = f"{path}.securityContext.seccompProfile"
        errors += _match(notes[_SECCOMP_POD], whole["seccompProfile"], here, "seccomp")
    windows = (spec.get("os") or {}).get("name") == "windows"
    for one, where in all_containers(spec, path):
        own = one.get("securityContext") or {}
        name = one.get("name", "")
        if own.get("seccompProfile") and _SECCOMP_CONTAINER + name in notes:
            here = f"{where}.securityContext.seccompProfile"
            errors += _match(notes[_SECCOMP_CONTAINER + name], own["seccompProfile"], here, "seccomp")
        profile = own.get("appArmorProfile") or whole.get("appArmorProfile")
        if profile and not windows and _APPARMOR + name in notes:
            here = f"{where}.securityContext.appArmorProfile"
            errors += _match(notes[_APPARMOR + name], profile, here, "apparmor")
    return errors


def _match(note: str, profile: Obj, path: str, word: str) -> Errors:
    kind = profile.get("type", "")
    same = {
        "Unconfined": note == "unconfined",
        "RuntimeDefault": note == "runtime/default" or (word == "seccomp" and note == "docker/default"),
        "Localhost": note.startswith("localhost/"),
    }.get(kind, True)
    if not same:
        return [forbidden(f"{path}.type", f"{word} type in annotation and field must match")]
    if kind == "Localhost" and note.removeprefix("localhost/") != profile.get("localhostProfile"):
        return [forbidden(f"{path}.localhostProfile", f"{word} profile in annotation and field must match")]
    return []


def resource_claims(found: Any, meta: Obj | None, path: str) -> Errors:
    """`resourceClaims` of a pod; `meta` is None in a template."""
    errors: Errors = []
    names: set[str] = set()
    for index, claim in enumerate(found or ()):
        here, name = f"{path}[{index}]", claim.get("name", "")
        one, template = claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName")
        if not name:
            errors.append(required(f"{here}.name"))
        elif name in names:
            errors.append(duplicate(f"{here}.name", name))
        else:
            problems = dns_label(f"{here}.name", name)
            if not problems and meta is not None and template is not None:
                full = f"{meta.get('name', '')}-{name}"
                problems = each(
                    f"{here}.name", full, [f"final ResourceClaim name: {p}" for p in subdomain_errors(full)]
                )
            errors += problems
            names.add(name)
        if one is not None and template is not None:
            text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(invalid_struct(here, _CLAIM, claim, text))
        if one is None and template is None:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid_struct(here, _CLAIM, claim, text))
        for field, value in (("resourceClaimName", one), ("resourceClaimTemplateName", template)):
            if value is not None:
                errors += dns_subdomain(f"{here}.{field}", value)
    return errors
