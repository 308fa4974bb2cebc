"""Containers: ports, environment, mounts, probes, lifecycle, security.

Source: the field descriptions of core/v1 and observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import re
from typing import Any

from chandlery.controlplane.builtins.validation.common import (
    NON_NEGATIVE,
    Errors,
    config_key_errors,
    dns_label,
    dns_subdomain,
    duplicate,
    each,
    forbidden,
    invalid,
    invalid_struct,
    non_negative,
    one_of,
    path_without_back_steps,
    port_name_errors,
    port_number,
    port_or_name,
    relative_path,
    required,
    too_long,
    unsupported,
)
from chandlery.controlplane.builtins.validation.podos import windows_options
from chandlery.controlplane.builtins.validation.resources import requirements
from chandlery.controlplane.metadata import qualified_name_errors
from chandlery.controlplane.types import FieldError, Obj

PROTOCOLS = ("SCTP", "TCP", "UDP")
_ENV_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_LABELLED = (*_ENV_PATHS, "metadata.annotations", "metadata.labels", "spec.restartPolicy")
_RESOURCE_PATHS = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_SIZES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_HEADER = re.compile(r"[-A-Za-z0-9]+")
_HEADER_TEXT = (
    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for "
    "validation is '[-A-Za-z0-9]+')"
)


def not_found(path: str, value: str) -> FieldError:
    return FieldError(path, "FieldValueNotFound", f'Not found: "{value}"')


def ports(found: Any, path: str) -> Errors:
    errors: Errors = []
    names: set[str] = set()
    for index, port in enumerate(found or ()):
        here = f"{path}[{index}]"
        name = port.get("name", "")
        if name:
            problems = port_name_errors(name)
            if problems:
                errors += each(f"{here}.name", name, problems)
            elif name in names:
                errors.append(duplicate(f"{here}.name", name))
            names.add(name)
        number = port.get("containerPort", 0)
        errors += port_number(f"{here}.containerPort", number) if number else [required(f"{here}.containerPort")]
        if port.get("hostPort"):
            errors += port_number(f"{here}.hostPort", port["hostPort"])
        errors += one_of(f"{here}.protocol", port.get("protocol", ""), PROTOCOLS, need=True)
    return errors


def _env_name(path: str, name: str) -> Errors:
    if all(0x20 <= ord(c) <= 0x7E and c != "=" for c in name):
        return []
    text = "a valid environment variable name must consist only of printable ASCII characters other than '='"
    return [invalid(path, name, text)]


def field_selector(found: Obj, allowed: tuple[str, ...], path: str) -> Errors:
    """An ObjectFieldSelector of the downward API."""
    if not found.get("apiVersion"):
        return [required(f"{path}.apiVersion")]
    field = found.get("fieldPath", "")
    if not field:
        return [required(f"{path}.fieldPath")]
    if found["apiVersion"] != "v1":
        text = f"error converting fieldPath: unsupported pod version: {found['apiVersion']}"
        return [invalid(f"{path}.fieldPath", field, text)]
    m = re.fullmatch(r"(.*)\['(.*)'\]", field)
    base = m.group(1) if m else field
    if m is None and base not in _LABELLED:
        text = f"error converting fieldPath: field label not supported: {field}"
        return [invalid(f"{path}.fieldPath", field, text)]
    if m is not None:
        if base not in ("metadata.annotations", "metadata.labels"):
            if base in _LABELLED:
                text = f"error converting fieldPath: field label does not support subscript: {field}"
            else:
                text = f"error converting fieldPath: field label not supported: {field}"
            return [invalid(f"{path}.fieldPath", field, text)]
        key = m.group(2).lower() if base == "metadata.annotations" else m.group(2)
        return each(path, key, qualified_name_errors(key))
    if base not in allowed:
        return [unsupported(f"{path}.fieldPath", base, sorted(allowed))]
    return []


def resource_selector(found: Obj, path: str, *, volume: bool) -> Errors:
    errors: Errors = []
    resource = found.get("resource", "")
    huge = resource.startswith(("limits.hugepages-", "requests.hugepages-"))
    if volume and not found.get("containerName"):
        errors.append(required(f"{path}.containerName"))
    elif not resource:
        errors.append(required(f"{path}.resource"))
    elif resource not in _RESOURCE_PATHS and not huge:
        errors.append(unsupported(f"{path}.resource", resource, _RESOURCE_PATHS))
    divisor = found.get("divisor", "0")
    if divisor != "0":
        sizes = ", ".join(_SIZES)
        if resource.endswith(".cpu"):
            if divisor not in ("1m", "1"):
                text = "only divisor's values 1m and 1 are supported with the cpu resource"
                errors.append(invalid(f"{path}.divisor", resource, text))
        elif divisor not in _SIZES:
            what = (
                "hugepages" if huge else {"memory": "memory"}.get(resource.partition(".")[2], "local ephemeral storage")
            )
            text = f"only divisor's values {sizes} are supported with the {what} resource"
            errors.append(invalid(f"{path}.divisor", resource, text))
    return errors


def _key_selector(found: Obj, path: str) -> Errors:
    errors = dns_subdomain(f"{path}.name", found.get("name", ""))
    key = found.get("key", "")
    if not key:
        errors.append(required(f"{path}.key"))
    else:
        errors += each(f"{path}.key", key, config_key_errors(key))
    return errors


def _file_key(found: Obj, path: str) -> Errors:
    errors = [required(f"{path}.{field}") for field in ("key", "volumeName", "path") if not found.get(field)]
    if found.get("key"):
        errors += _env_name(f"{path}.key", found["key"])
    return errors + (relative_path(f"{path}.path", found["path"]) if found.get("path") else [])


def _value_from(variable: Obj, path: str) -> Errors:
    source = variable.get("valueFrom")
    if source is None:
        return []
    errors: Errors = []
    if "fieldRef" in source:
        errors += field_selector(source["fieldRef"], _ENV_PATHS, f"{path}.fieldRef")
    if "resourceFieldRef" in source:
        errors += resource_selector(source["resourceFieldRef"], f"{path}.resourceFieldRef", volume=False)
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in source:
            errors += _key_selector(source[kind], f"{path}.{kind}")
    if "fileKeyRef" in source:
        errors += _file_key(source["fileKeyRef"], f"{path}.fileKeyRef")
    if not source:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        errors.append(invalid(path, "", text))
    elif variable.get("value"):
        errors.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(source) > 1:
        errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def environment(found: Any, path: str) -> Errors:
    errors: Errors = []
    for index, variable in enumerate(found or ()):
        here = f"{path}[{index}]"
        name = variable.get("name", "")
        errors += _env_name(f"{here}.name", name) if name else [required(f"{here}.name")]
        errors += _value_from(variable, f"{here}.valueFrom")
    return errors


def environment_from(found: Any, path: str) -> Errors:
    errors: Errors = []
    for index, source in enumerate(found or ()):
        here = f"{path}[{index}]"
        if source.get("prefix"):
            errors += _env_name(f"{here}.prefix", source["prefix"])
        count = 0
        for kind in ("configMapRef", "secretRef"):
            if kind in source:
                count += 1
                name = source[kind].get("name", "")
                errors += dns_subdomain(f"{here}.{kind}.name", name) if name else [required(f"{here}.{kind}.name")]
        if count == 0:
            errors.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif count > 1:
            errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def mounts(container: Obj, volumes: dict[str, Obj], path: str) -> Errors:
    errors: Errors = []
    devices = {d.get("name"): d.get("devicePath") for d in container.get("volumeDevices") or ()}
    seen: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        here = f"{path}[{index}]"
        name, where = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            errors.append(required(f"{here}.name"))
        if name not in volumes:
            errors.append(not_found(f"{here}.name", name))
        if not where:
            errors.append(required(f"{here}.mountPath"))
        if where in seen:
            errors.append(invalid(f"{here}.mountPath", where, "must be unique"))
        seen.add(where)
        if name in devices:
            errors.append(invalid(f"{here}.name", name, "must not already exist in volumeDevices"))
        if where in devices.values():
            errors.append(invalid(f"{here}.mountPath", where, "must not already exist as a path in volumeDevices"))
        sub, expression = mount.get("subPath", ""), mount.get("subPathExpr", "")
        if sub:
            errors += relative_path(f"{path}.subPath", sub)
        if expression:
            if sub:
                text = "subPathExpr and subPath are mutually exclusive"
                errors.append(invalid(f"{here}.subPathExpr", expression, text))
            errors += relative_path(f"{path}.subPathExpr", expression)
        propagation = mount.get("mountPropagation")
        if propagation is not None:
            kinds = ("Bidirectional", "HostToContainer", "None")
            errors += one_of(f"{path}.mountPropagation", propagation, kinds)
            if propagation == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
                text = "Bidirectional mount propagation is available only to privileged containers"
                errors.append(forbidden(f"{path}.mountPropagation", text))
        errors += _recursive_read_only(mount, f"{path}.recursiveReadOnly")
    return errors


def _recursive_read_only(mount: Obj, path: str) -> Errors:
    found = mount.get("recursiveReadOnly")
    if found is None or found == "Disabled":
        return []
    if found not in ("Enabled", "IfPossible"):
        return [unsupported(path, found, ("Disabled", "Enabled", "IfPossible"))]
    errors: Errors = []
    if not mount.get("readOnly"):
        errors.append(forbidden(path, "may only be specified when readOnly is true"))
    if mount.get("mountPropagation") not in (None, "None"):
        errors.append(forbidden(path, "may only be specified when mountPropagation is None or not specified"))
    return errors


def devices(container: Obj, volumes: dict[str, Obj], path: str) -> Errors:
    errors: Errors = []
    mounted = {m.get("name"): m.get("mountPath") for m in container.get("volumeMounts") or ()}
    names: set[str] = set()
    paths: set[str] = set()
    for index, device in enumerate(container.get("volumeDevices") or ()):
        here = f"{path}[{index}]"
        name, where = device.get("name", ""), device.get("devicePath", "")
        volume = volumes.get(name)
        if not name:
            errors.append(required(f"{here}.name"))
        if name in names:
            errors.append(invalid(f"{here}.name", name, "must be unique"))
        if volume is None:
            errors.append(not_found(f"{here}.name", name))
        elif "persistentVolumeClaim" not in volume and "ephemeral" not in volume:
            text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(invalid(f"{here}.name", name, text))
        if not where:
            errors.append(required(f"{here}.devicePath"))
        if where in paths:
            errors.append(invalid(f"{here}.devicePath", where, "must be unique"))
        if where and path_without_back_steps("", where):
            errors.append(invalid(f"{here}.devicePath", where, "can not contain backsteps ('..')"))
        else:
            paths.add(where)
        if name in mounted:
            errors.append(invalid(f"{here}.name", name, "must not already exist in volumeMounts"))
        if where in mounted.values():
            errors.append(invalid(f"{here}.devicePath", where, "must not already exist as a path in volumeMounts"))
        names.add(name)
    return errors


_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def handler(found: Obj, grace: int | None, path: str) -> Errors:
    """What a probe or a lifecycle hook does: exactly one action."""
    errors: Errors = []
    count = 0
    for kind in _HANDLERS:
        if kind not in found:
            continue
        count += 1
        here, action = f"{path}.{kind}", found[kind]
        if count > 1:
            errors.append(forbidden(here, "may not specify more than 1 handler type"))
        elif kind == "exec":
            if not action.get("command"):
                errors.append(required(f"{here}.command"))
        elif kind == "httpGet":
            errors += _http_get(action, here)
        elif kind == "tcpSocket":
            errors += port_or_name(f"{here}.port", action.get("port", 0))
        elif kind == "grpc":
            errors += port_number(f"{here}.port", action.get("port", 0))
        elif grace is not None and not 0 <= action.get("seconds", 0) <= grace:
            text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            errors.append(invalid(here, action.get("seconds", 0), text))
    if count == 0:
        errors.append(required(path, "must specify a handler type"))
    return errors


def _http_get(action: Obj, path: str) -> Errors:
    errors: Errors = []
    if not action.get("path"):
        errors.append(required(f"{path}.path"))
    errors += port_or_name(f"{path}.port", action.get("port", 0))
    errors += one_of(f"{path}.scheme", action.get("scheme", ""), ("HTTP", "HTTPS"))
    for header in action.get("httpHeaders") or ():
        if not _HEADER.fullmatch(header.get("name", "")):
            errors.append(invalid(f"{path}.httpHeaders", header.get("name", ""), _HEADER_TEXT))
    return errors


def probe(found: Any, grace: int | None, path: str, *, kind: str) -> Errors:
    """`kind` is liveness, readiness or startup."""
    if found is None:
        return []
    errors = handler(found, grace, path)
    for field in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        value = found.get(field, 0)
        if value < 0:
            errors.append(invalid(f"{path}.{field}", value, NON_NEGATIVE))
    seconds = found.get("terminationGracePeriodSeconds")
    if seconds is not None and seconds <= 0:
        errors.append(invalid(f"{path}.terminationGracePeriodSeconds", seconds, "must be greater than 0"))
    if kind == "readiness":
        if seconds is not None:
            text = "must not be set for readinessProbes"
            errors.append(invalid(f"{path}.terminationGracePeriodSeconds", seconds, text))
    elif found.get("successThreshold", 0) != 1:
        errors.append(invalid(f"{path}.successThreshold", found.get("successThreshold", 0), "must be 1"))
    return errors


def probes_and_hooks(container: Obj, grace: int | None, path: str) -> Errors:
    errors: Errors = []
    for hook in ("postStart", "preStop"):
        found = (container.get("lifecycle") or {}).get(hook)
        if found is not None:
            errors += handler(found, grace, f"{path}.lifecycle.{hook}")
    for kind in ("liveness", "readiness", "startup"):
        errors += probe(container.get(f"{kind}Probe"), grace, f"{path}.{kind}Probe", kind=kind)
    return errors


ID_RANGE = "must be between 0 and 2147483647, inclusive"


def user_id(path: str, value: int | None) -> Errors:
    return [] if value is None or 0 <= value <= 2147483647 else [invalid(path, value, ID_RANGE)]


def seccomp_profile(found: Any, path: str) -> Errors:
    if found is None:
        return []
    name, local = found.get("type", ""), found.get("localhostProfile")
    errors = _profile_type(name, path, "seccomp")
    if name == "Localhost":
        if local is None:
            errors.append(required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost"))
        else:
            errors += relative_path(f"{path}.localhostProfile", local)
    elif local is not None:
        definition = "io.k8s.api.core.v1.SeccompProfile"
        text = "can only be set when seccomp type is Localhost"
        errors.append(invalid_struct(f"{path}.localhostProfile", definition, found, text))
    return errors


def apparmor_profile(found: Any, path: str) -> Errors:
    if found is None:
        return []
    name, local = found.get("type", ""), found.get("localhostProfile")
    errors = _profile_type(name, path, "appArmor")
    here = f"{path}.localhostProfile"
    if name == "Localhost":
        if local is None or local == "":
            errors.append(required(here, "must be set when AppArmor type is Localhost"))
        elif local != local.strip():
            errors.append(invalid(here, local, "must not be padded with whitespace"))
        if local is not None and len(local.encode()) > 4095:
            errors.append(too_long(here, 4095))
    elif name in ("RuntimeDefault", "Unconfined") and local is not None:
        errors.append(invalid(here, local, "can only be set when AppArmor type is Localhost"))
    return errors


def _profile_type(name: str, path: str, kind: str) -> Errors:
    if not name:
        return [required(f"{path}.type", f"type is required when {kind}Profile is set")]
    return one_of(f"{path}.type", name, ("Localhost", "RuntimeDefault", "Unconfined"))


def security_context(found: Any, path: str, *, host_users: bool) -> Errors:
    """A container's securityContext. Privileged containers are turned down, as on a server without that permission."""
    if found is None:
        return []
    errors: Errors = []
    definition = "io.k8s.api.core.v1.SecurityContext"
    privileged = found.get("privileged")
    if privileged:
        errors.append(forbidden(f"{path}.privileged", "disallowed by cluster policy"))
    errors += user_id(f"{path}.runAsUser", found.get("runAsUser"))
    errors += user_id(f"{path}.runAsGroup", found.get("runAsGroup"))
    mount = found.get("procMount")
    if mount is not None:
        if mount not in ("Default", "Unmasked"):
            errors.append(unsupported(f"{path}.procMount", mount, ("Default", "Unmasked")))
        elif mount == "Unmasked" and host_users:
            text = "`hostUsers` must be false to use `Unmasked`"
            errors.append(invalid(f"{path}.procMount", mount, text))
    errors += seccomp_profile(found.get("seccompProfile"), f"{path}.seccompProfile")
    errors += windows_options(found.get("windowsOptions"), f"{path}.windowsOptions")
    errors += apparmor_profile(found.get("appArmorProfile"), f"{path}.appArmorProfile")
    if found.get("allowPrivilegeEscalation") is False:
        if privileged:
            text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(invalid_struct(path, definition, found, text))
        if any(c == "CAP_SYS_ADMIN" for c in (found.get("capabilities") or {}).get("add") or ()):
            text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(invalid_struct(path, definition, found, text))
    return errors


def common(
    container: Obj, volumes: dict[str, Obj], claims: set[str], path: str, *, pod_restart: str, host_users: bool
) -> Errors:
    """What holds for every kind of container."""
    name = container.get("name", "")
    errors = dns_label(f"{path}.name", name) if name else [required(f"{path}.name")]
    if not container.get("image"):
        errors.append(required(f"{path}.image"))
    policies = ("File", "FallbackToLogsOnError")
    errors += one_of(
        f"{path}.terminationMessagePolicy", container.get("terminationMessagePolicy", ""), policies, need=True
    )
    errors += ports(container.get("ports"), f"{path}.ports")
    errors += environment(container.get("env"), f"{path}.env")
    errors += environment_from(container.get("envFrom"), f"{path}.envFrom")
    errors += mounts(container, volumes, f"{path}.volumeMounts")
    errors += devices(container, volumes, f"{path}.volumeDevices")
    pull = ("Always", "IfNotPresent", "Never")
    errors += one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy", ""), pull, need=True)
    errors += requirements(container.get("resources"), claims, f"{path}.resources")
    errors += _resize(container.get("resizePolicy"), f"{path}.resizePolicy", pod_restart)
    errors += security_context(container.get("securityContext"), f"{path}.securityContext", host_users=host_users)
    return errors


def _resize(found: Any, path: str, pod_restart: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, policy in enumerate(found or ()):
        name, restart = policy.get("resourceName", ""), policy.get("restartPolicy", "")
        if name in seen:
            errors.append(duplicate(f"{path}[{index}]", name))
        seen.add(name)
        errors += one_of(path, name, ("cpu", "memory"), need=True)
        errors += one_of(path, restart, ("NotRequired", "RestartContainer"), need=True)
        if pod_restart == "Never" and restart != "NotRequired":
            errors.append(invalid(path, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
    return errors


def host_port_conflicts(containers: Any, path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, container in enumerate(containers or ()):
        for number, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            text = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{port['hostPort']}"
            if text in seen:
                errors.append(duplicate(f"{path}[{index}].ports[{number}].hostPort", text))
            seen.add(text)
    return errors


__all__ = ["common", "field_selector", "host_port_conflicts", "non_negative", "probes_and_hooks", "resource_selector"]
