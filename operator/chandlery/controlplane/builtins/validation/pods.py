"""Pod specs, pods and pod templates.

Source: the field descriptions of core/v1 and observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import re
from typing import Any

from chandlery.controlplane.builtins import internal
from chandlery.controlplane.builtins.validation import containers, podgates, podos, podparts, podstatus
from chandlery.controlplane.builtins.validation.common import (
    Errors,
    dns_label,
    dns_subdomain,
    duplicate,
    each,
    forbidden,
    immutable,
    invalid,
    ip_address,
    label_selector,
    labels_map,
    one_of,
    required,
    template_metadata,
    too_long,
    unsupported,
)
from chandlery.controlplane.builtins.validation.resources import (
    requirements,
    resource_name,
    resource_quantity,
    whole_pod,
)
from chandlery.controlplane.builtins.validation.volumes import volumes
from chandlery.controlplane.metadata import label_value_errors, qualified_name_errors, subdomain_errors
from chandlery.controlplane.types import Obj, RequestContext

_SPEC = "io.k8s.api.core.v1.PodSpec"
_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_INIT_ONLY = "may not be set for init containers without restartPolicy=Always"


def _containers(spec: Obj, known: dict[str, Obj], path: str) -> Errors:
    errors: Errors = []
    claims = {c["name"] for c in spec.get("resourceClaims") or () if c.get("name")}
    grace, restart = spec.get("terminationGracePeriodSeconds"), spec.get("restartPolicy", "")
    host_users = spec.get("hostUsers") is not False
    regular = spec.get("containers") or []
    names: set[str] = set()
    if not regular:
        errors.append(required(f"{path}.containers"))
    for index, one in enumerate(regular):
        here = f"{path}.containers[{index}]"
        errors += containers.common(one, known, claims, here, pod_restart=restart, host_users=host_users)
        if one.get("name", "") in names:
            errors.append(duplicate(f"{here}.name", one.get("name", "")))
        names.add(one.get("name", ""))
        errors += containers.probes_and_hooks(one, grace, here)
        errors += podparts.restart_rules(one, here)
    errors += containers.host_port_conflicts(regular, f"{path}.containers")
    for index, one in enumerate(spec.get("initContainers") or ()):
        here = f"{path}.initContainers[{index}]"
        errors += containers.common(one, known, claims, here, pod_restart=restart, host_users=host_users)
        errors += podparts.init_restart_rules(one, here)
        if one.get("name", "") in names:
            errors.append(duplicate(f"{here}.name", one.get("name", "")))
        elif one.get("name"):
            names.add(one["name"])
        errors += containers.host_port_conflicts([one], f"{path}.initContainers")
        if one.get("restartPolicy") == "Always":
            errors += containers.probes_and_hooks(one, grace, here)
        else:
            errors += [
                forbidden(f"{here}.{field}", _INIT_ONLY)
                for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
                if field in one
            ]
    temporary: set[str] = set()
    for index, one in enumerate(spec.get("ephemeralContainers") or ()):
        here = f"{path}.ephemeralContainers[{index}]"
        errors += containers.common(one, known, claims, here, pod_restart=restart, host_users=host_users)
        errors += podparts.ephemeral(one, names, temporary, here)
    return errors


def _host_network(spec: Obj, path: str, *, is_pod: bool) -> Errors:
    if not spec.get("hostNetwork"):
        return []
    errors: Errors = []
    for index, one in enumerate(spec.get("containers") or ()):
        for number, port in enumerate(one.get("ports") or ()):
            host = port.get("hostPort", 0)
            if (is_pod or host) and host != port.get("containerPort", 0):
                text = "must match `containerPort` when `hostNetwork` is true"
                errors.append(invalid(f"{path}.containers[{index}].ports[{number}].hostPort", host, text))
    return errors


_SYSCTL_TEXT = (
    "must have at most 253 characters and match regex "
    r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
)


def _security(found: Any, path: str, spec: Obj) -> Errors:
    if not found:
        return []
    errors: Errors = []
    errors += containers.user_id(f"{path}.fsGroup", found.get("fsGroup"))
    errors += containers.user_id(f"{path}.runAsUser", found.get("runAsUser"))
    errors += containers.user_id(f"{path}.runAsGroup", found.get("runAsGroup"))
    for index, group in enumerate(found.get("supplementalGroups") or ()):
        errors += containers.user_id(f"{path}.supplementalGroups[{index}]", group)
    errors += _sysctls(found.get("sysctls"), f"{path}.sysctls", spec)
    if found.get("fsGroupChangePolicy") is not None:
        errors += one_of(f"{path}.fsGroupChangePolicy", found["fsGroupChangePolicy"], ("Always", "OnRootMismatch"))
    if found.get("supplementalGroupsPolicy") is not None:
        errors += one_of(f"{path}.supplementalGroupsPolicy", found["supplementalGroupsPolicy"], ("Merge", "Strict"))
    if found.get("seLinuxChangePolicy") is not None:
        errors += one_of(f"{path}.seLinuxChangePolicy", found["seLinuxChangePolicy"], ("MountOption", "Recursive"))
    errors += containers.seccomp_profile(found.get("seccompProfile"), f"{path}.seccompProfile")
    errors += podos.windows_options(found.get("windowsOptions"), f"{path}.windowsOptions")
    errors += containers.apparmor_profile(found.get("appArmorProfile"), f"{path}.appArmorProfile")
    return errors


_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_SYSCTL_NET = re.compile(r"net[./]")
_SYSCTL_IPC = re.compile(r"kernel[./](sem$|shm|msg)|fs[./]mqueue[./]")


def _sysctls(found: Any, path: str, spec: Obj) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, one in enumerate(found or ()):
        name = one.get("name", "")
        here = f"{path}[{index}].name"
        if not name:
            errors.append(required(here))
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            errors.append(invalid(here, name, _SYSCTL_TEXT))
        elif name in seen:
            errors.append(duplicate(here, name))
        if spec.get("hostNetwork") and _SYSCTL_NET.match(name):
            errors.append(invalid(here, name, "may not be specified when 'hostNetwork' is true"))
        elif spec.get("hostIPC") and _SYSCTL_IPC.match(name):
            errors.append(invalid(here, name, "may not be specified when 'hostIPC' is true"))
        seen.add(name)
    return errors


def tolerations(found: Any, path: str) -> Errors:
    errors: Errors = []
    for index, one in enumerate(found or ()):
        here = f"{path}[{index}]"
        key, operator = one.get("key", ""), one.get("operator", "")
        value, effect = one.get("value", ""), one.get("effect", "")
        if key:
            errors += each(f"{here}.key", key, qualified_name_errors(key))
        elif operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(invalid(f"{here}.operator", operator, text))
        if one.get("tolerationSeconds") is not None and effect != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(invalid(f"{here}.effect", effect, text))
        if operator in ("Equal", ""):
            problems = label_value_errors(value)
            if problems:
                errors.append(invalid(f"{here}.operator", value, ";".join(problems)))
        elif operator == "Exists":
            if value:
                text = "value must be empty when `operator` is 'Exists'"
                errors.append(invalid(f"{here}.operator", value, text))
        else:
            errors.append(unsupported(f"{here}.operator", operator, ("Equal", "Exists")))
        if effect:
            errors += one_of(f"{here}.effect", effect, _EFFECTS)
    return errors


def node_selector_term(term: Obj, path: str, *, check_values: bool = True) -> Errors:
    errors: Errors = []
    for index, rule in enumerate(term.get("matchExpressions") or ()):
        here = f"{path}.matchExpressions[{index}]"
        operator, values = rule.get("operator", ""), rule.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                errors.append(required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(forbidden(f"{here}.values", text))
        elif operator in ("Gt", "Lt"):
            if len(values) != 1:
                text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                errors.append(required(f"{here}.values", text))
        else:
            errors.append(invalid(f"{here}.operator", operator, "not a valid selector operator"))
        errors += each(f"{here}.key", rule.get("key", ""), qualified_name_errors(rule.get("key", "")))
        if check_values:
            for number, value in enumerate(values):
                errors += each(f"{here}.values[{number}]", value, label_value_errors(value))
    for index, rule in enumerate(term.get("matchFields") or ()):
        here = f"{path}.matchFields[{index}]"
        values = rule.get("values") or []
        if rule.get("operator") not in ("In", "NotIn"):
            errors.append(invalid(f"{here}.operator", rule.get("operator", ""), "not a valid selector operator"))
        elif len(values) != 1:
            text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            errors.append(required(f"{here}.values", text))
        if rule.get("key") != "metadata.name":
            errors.append(invalid(f"{here}.key", rule.get("key", ""), "not a valid field selector key"))
        else:
            for number, value in enumerate(values):
                errors += dns_subdomain(f"{here}.values[{number}]", value)
    return errors


def node_selector(found: Obj, path: str) -> Errors:
    terms = found.get("nodeSelectorTerms") or []
    if not terms:
        return [required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    errors: Errors = []
    for index, term in enumerate(terms):
        errors += node_selector_term(term, f"{path}.nodeSelectorTerms[{index}]")
    return errors


def _affinity_keys(term: Obj, path: str) -> Errors:
    """`matchLabelKeys` and `mismatchLabelKeys`; in a pod their values are part of the selector already."""
    errors: Errors = []
    selector = term.get("labelSelector")
    keys, others = term.get("matchLabelKeys") or [], term.get("mismatchLabelKeys") or []
    for field, names in (("matchLabelKeys", keys), ("mismatchLabelKeys", others)):
        if names and selector is None:
            errors.append(forbidden(f"{path}.{field}", "must not be specified when labelSelector is not set"))
        elif names:
            for index, key in enumerate(names):
                errors += each(f"{path}.{field}[{index}]", key, qualified_name_errors(key))
    seen = set((selector or {}).get("matchLabels") or ())
    places = {key: index for index, key in enumerate(keys)}
    for rule in (selector or {}).get("matchExpressions") or ():
        key = rule.get("key", "")
        if key in places and key in seen:
            errors.append(invalid(f"{path}[{places[key]}]", key, "exists in both matchLabelKeys and labelSelector"))
        seen.add(key)
    for index, key in enumerate(keys):
        if key in others:
            text = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.append(invalid(f"{path}.matchLabelKeys[{index}]", key, text))
    return errors


def _pod_term(term: Obj, path: str) -> Errors:
    errors = label_selector(term.get("labelSelector"), f"{path}.labelSelector")
    errors += label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for name in term.get("namespaces") or ():
        errors += each(f"{path}.namespace", name, dns_label_errors(name))
    errors += _affinity_keys(term, path)
    key = term.get("topologyKey", "")
    if not key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    return errors + each(f"{path}.topologyKey", key, qualified_name_errors(key))


def dns_label_errors(name: str) -> list[str]:
    from chandlery.controlplane.builtins.validation.common import label_errors_plain

    return label_errors_plain(name)


def _weight(value: int, path: str) -> Errors:
    return [] if 1 <= value <= 100 else [invalid(path, value, "must be in the range 1-100")]


def _affinity(found: Any, path: str) -> Errors:
    if not found:
        return []
    errors: Errors = []
    node = found.get("nodeAffinity")
    if node is not None:
        here = f"{path}.nodeAffinity"
        wanted = node.get("requiredDuringSchedulingIgnoredDuringExecution")
        if wanted is not None:
            errors += node_selector(wanted, f"{here}.requiredDuringSchedulingIgnoredDuringExecution")
        for index, term in enumerate(node.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            where = f"{here}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
            errors += _weight(term.get("weight", 0), f"{where}.weight")
            errors += node_selector_term(term.get("preference") or {}, f"{where}.preference", check_values=False)
    for kind in ("podAffinity", "podAntiAffinity"):
        pods = found.get(kind)
        if pods is None:
            continue
        here = f"{path}.{kind}"
        for index, term in enumerate(pods.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
            errors += _pod_term(term, f"{here}.requiredDuringSchedulingIgnoredDuringExecution[{index}]")
        for index, term in enumerate(pods.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            where = f"{here}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
            errors += _weight(term.get("weight", 0), f"{where}.weight")
            errors += _pod_term(term.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm")
    return errors


def _dns_config(found: Any, policy: str, path: str) -> Errors:
    if policy == "None":
        if found is None:
            return [required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not found.get("nameservers"):
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required(f"{path}.nameservers", text)]
    if found is None:
        return []
    errors: Errors = []
    servers, searches = found.get("nameservers") or [], found.get("searches") or []
    if len(servers) > 3:
        errors.append(invalid(f"{path}.nameservers", servers, "must not have more than 3 nameservers"))
    for index, server in enumerate(servers):
        errors += ip_address(f"{path}.nameservers[{index}]", server)
    if len(searches) > 32:
        errors.append(invalid(f"{path}.searches", searches, "must not have more than 32 search paths"))
    if len(" ".join(searches)) > 2048:
        text = "must not have more than 2048 characters (including spaces) in the search list"
        errors.append(invalid(f"{path}.searches", searches, text))
    for index, search in enumerate(searches):
        if search != ".":
            name = search.removesuffix(".")
            problems = subdomain_errors(name.replace("_", "a"))
            errors += each(f"{path}.searches[{index}]", name, problems)
    for index, option in enumerate(found.get("options") or ()):
        if not option.get("name"):
            errors.append(required(f"{path}.options[{index}]", "must not be empty"))
    return errors


def _topology(found: Any, path: str) -> Errors:
    errors: Errors = []
    for index, one in enumerate(found or ()):
        here = f"{path}[{index}]"
        skew, key, action = one.get("maxSkew", 0), one.get("topologyKey", ""), one.get("whenUnsatisfiable", "")
        if skew <= 0:
            errors.append(invalid(f"{here}.maxSkew", skew, "must be greater than zero"))
        if not key:
            errors.append(required(f"{here}.topologyKey", "can not be empty"))
        errors += one_of(f"{here}.whenUnsatisfiable", action, ("DoNotSchedule", "ScheduleAnyway"))
        if any((o.get("topologyKey", ""), o.get("whenUnsatisfiable", "")) == (key, action) for o in found[index + 1 :]):
            errors.append(duplicate(f"{here}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}"))
        domains = one.get("minDomains")
        if domains is not None:
            if domains <= 0:
                errors.append(invalid(f"{here}.minDomains", domains, "must be greater than zero"))
            if action != "DoNotSchedule":
                text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                errors.append(invalid(f"{here}.minDomains", domains, text))
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if one.get(field) is not None:
                errors += one_of(f"{here}.{field}", one[field], ("Honor", "Ignore"))
        errors += label_selector(one.get("labelSelector"), f"{here}.labelSelector")
        errors += _match_keys(one, here)
    return errors


def _match_keys(one: Obj, path: str) -> Errors:
    """Label keys whose values the pod itself fills in; in a pod they are part of the selector already."""
    errors: Errors = []
    keys, selector = one.get("matchLabelKeys") or [], one.get("labelSelector")
    if keys and selector is None:
        errors.append(forbidden(f"{path}.matchLabelKeys", "must not be specified when labelSelector is not set"))
    seen = set((selector or {}).get("matchLabels") or ())
    rules = [rule.get("key") for rule in (selector or {}).get("matchExpressions") or ()]
    if path.startswith("spec.topologySpreadConstraints"):
        twice = {key for number, key in enumerate(rules) if key in seen or key in rules[:number]}
    else:
        twice = seen | set(rules)
    for index, key in enumerate(keys):
        here = f"{path}.matchLabelKeys[{index}]"
        errors += each(here, key, qualified_name_errors(key))
        if key in twice:
            errors.append(invalid(here, key, "exists in both matchLabelKeys and labelSelector"))
    return errors


def _names(spec: Obj, path: str) -> Errors:
    """Fields that name something else."""
    errors: Errors = []
    for field in ("serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"):
        if spec.get(field):
            errors += dns_subdomain(f"{path}.{field}", spec[field])
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            errors += dns_label(f"{path}.{field}", spec[field])
    name = spec.get("hostnameOverride")
    if name is not None:
        here = f"{path}.hostnameOverride"
        for field in ("setHostnameAsFQDN", "hostNetwork"):
            if spec.get(field):
                errors.append(forbidden(here, f"may not be specified when {field} is true"))
        if len(name.encode()) > 64:
            errors.append(too_long(here, 64))
        errors += dns_subdomain(here, name)
    return errors


def pod_spec(spec: Obj, path: str, *, meta: Obj | None = None) -> Errors:
    """The rules of a PodSpec, in a Pod (whose metadata is `meta`) or in a template."""
    is_pod = meta is not None
    errors: Errors = []
    known, problems = volumes(spec.get("volumes"), f"{path}.volumes", (meta or {}).get("name") or "")
    errors += problems
    errors += _containers(spec, known, path)
    claims = {c["name"] for c in spec.get("resourceClaims") or () if c.get("name")}
    errors += requirements(spec.get("resources"), claims, f"{path}.resources", whole_pod=True)
    errors += whole_pod(spec, f"{path}.resources")
    errors += _host_network(spec, path, is_pod=is_pod)
    errors += one_of(f"{path}.restartPolicy", spec.get("restartPolicy", ""), _RESTART, need=True)
    errors += one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy", ""), _DNS, need=True)
    errors += labels_map(spec.get("nodeSelector"), f"{path}.nodeSelector")
    errors += _security(spec.get("securityContext"), f"{path}.securityContext", spec)
    if spec.get("hostPID") and spec.get("shareProcessNamespace"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(f"{path}.securityContext.shareProcessNamespace", True, text))
    errors += _affinity(spec.get("affinity"), f"{path}.affinity")
    errors += _dns_config(spec.get("dnsConfig"), spec.get("dnsPolicy", ""), f"{path}.dnsConfig")
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType", "")
        errors += each(f"{path}.readinessGates[{index}].conditionType", kind, qualified_name_errors(kind))
    gates: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        name = gate.get("name", "")
        errors += each(f"{path}.schedulingGates[{index}]", name, qualified_name_errors(name))
        if name in gates:
            errors.append(duplicate(f"{path}.schedulingGates[{index}]", name))
        gates.add(name)
    errors += _topology(spec.get("topologySpreadConstraints"), f"{path}.topologySpreadConstraints")
    if spec.get("hostUsers") is False:
        for field, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
            if spec.get(field):
                errors.append(forbidden(f"{path}.{shown}", "when `hostUsers` is false"))
        for one, here in podos.all_containers(spec, path):
            if one.get("volumeDevices"):
                errors.append(forbidden(f"{here}.volumeDevices", "when `hostUsers` is false"))
    errors += _names(spec, path)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2147483647:
        text = "must be between 1 and 2147483647, inclusive"
        errors.append(invalid(f"{path}.activeDeadlineSeconds", deadline, text))
    errors += tolerations(spec.get("tolerations"), f"{path}.tolerations")
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        here = f"{path}.hostAliases[{index}]"
        errors += ip_address(f"{here}.ip", alias.get("ip", ""))
        for number, name in enumerate(alias.get("hostnames") or ()):
            errors += dns_subdomain(f"{here}.hostnames[{number}]", name)
    if spec.get("preemptionPolicy") is not None:
        errors += one_of(
            f"{path}.preemptionPolicy", spec["preemptionPolicy"], ("PreemptLowerPriority", "Never"), need=True
        )
    for name, text in (spec.get("overhead") or {}).items():
        errors += resource_name(name, f"{path}.overhead[{name}]")
        errors += resource_quantity(name, text, f"{path}.overhead[{name}]")
    errors += podos.host_process(spec, path)
    errors += podos.operating_system(spec, path)
    errors += podparts.file_key_volumes(spec, path)
    return errors + podos.resource_claims(spec.get("resourceClaims"), meta, f"{path}.resourceClaims")


def template_meta(found: Any, path: str) -> Errors:
    """Labels and annotations of a PodTemplateSpec."""
    found = found or {}
    meta = found.get("metadata") or {}
    errors = template_metadata(meta, path)
    return errors + podos.meaningful_annotations(meta, found.get("spec") or {}, f"{path}.annotations")


def template(found: Any, path: str) -> Errors:
    """A PodTemplateSpec."""
    found = found or {}
    spec, meta = found.get("spec") or {}, found.get("metadata") or {}
    errors = template_meta(found, path)
    errors += pod_spec(spec, f"{path}.spec")
    errors += podos.annotations_match(meta, spec, f"{path}.spec")
    if spec.get("ephemeralContainers"):
        errors.append(forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"))
    return errors


def _pod(obj: Obj) -> Errors:
    """What holds for a pod at any time."""
    spec, meta = obj.get("spec") or {}, obj["metadata"]
    errors = podos.meaningful_annotations(meta, spec, "metadata.annotations") + pod_spec(spec, "spec", meta=meta)
    for group in ("containers", "initContainers"):
        for index, one in enumerate(spec.get(group) or ()):
            errors += _image_spaces(one, f"spec.{group}[{index}]")
    return errors


def _image_spaces(container: Obj, path: str) -> Errors:
    image = container.get("image", "")
    if image == image.strip():
        return []
    return [invalid(f"{path}.image", image, "must not have leading or trailing whitespace")]


def create(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors = _pod(obj)
    if spec.get("ephemeralContainers"):
        errors.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        errors.append(forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
    return errors + podos.annotations_match(obj["metadata"], spec, "spec")


_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _added_tolerations(new: Any, old: Any) -> Errors:
    for one in old or ():
        rest = {k: v for k, v in one.items() if k != "tolerationSeconds"}
        if not any({k: v for k, v in t.items() if k != "tolerationSeconds"} == rest for t in new or ()):
            text = "existing toleration can not be modified except its tolerationSeconds"
            return [forbidden("spec.tolerations", text)]
    return tolerations(new, "spec.tolerations")


def update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        return podstatus.status_update(obj, old)
    if ctx.subresource == "ephemeralcontainers":
        return _pod(obj) + podparts.ephemeral_update(obj, old)
    if ctx.subresource == "resize":
        return _pod(obj) + podparts.resize_update(obj, old)
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors = _pod(obj)
    errors += immutable("metadata.generateName", *(o["metadata"].get("generateName", "") for o in (obj, old)))
    for group in ("containers", "initContainers"):
        if len(spec.get(group) or ()) != len(before.get(group) or ()):
            text = "pod updates may not add or remove containers"
            return [*errors, forbidden(f"spec.{group}", text)]
        for index, one in enumerate(spec.get(group) or ()):
            if not one.get("image"):
                errors.append(required(f"spec.{group}[{index}].image"))
            errors += _image_spaces(one, f"spec.{group}[{index}]")
    deadline, deadline_before = spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if deadline is not None:
        if not 0 <= deadline <= 2147483647:
            text = "must be between 0 and 2147483647, inclusive"
            return [*errors, invalid("spec.activeDeadlineSeconds", deadline, text)]
        if deadline_before is not None and deadline > deadline_before:
            text = "must be less than or equal to previous value"
            return [*errors, invalid("spec.activeDeadlineSeconds", deadline, text)]
    elif deadline_before is not None:
        text = "must not update from a positive integer to nil value"
        errors.append(invalid("spec.activeDeadlineSeconds", None, text))
    errors += _added_tolerations(spec.get("tolerations"), before.get("tolerations"))
    errors += podgates.only_fewer(spec.get("schedulingGates"), before.get("schedulingGates"))
    changed = _with_allowed_changes(spec, before)
    if before.get("schedulingGates"):
        errors += podgates.while_gated(changed, before)
    if changed != before:
        errors.append(forbidden("spec", f"{_UPDATE_TEXT}\n{internal.difference(_SPEC, before, changed)}"))
    return errors


def _with_allowed_changes(spec: Obj, before: Obj) -> Obj:
    """The new spec with everything that may change put back."""
    out = dict(spec)
    for group in ("containers", "initContainers"):
        if spec.get(group):
            old = before.get(group) or []
            out[group] = [{**one, "image": old[index].get("image", "")} for index, one in enumerate(spec[group])]
    for field in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        if field in before:
            out[field] = before[field]
        else:
            out.pop(field, None)
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and out.get("terminationGracePeriodSeconds") == 1:
        out["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    return out


def pod_template(_: RequestContext, obj: Obj) -> Errors:
    return template(obj.get("template"), "template")


def pod_template_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    return pod_template(ctx, obj)
