"""FlowSchemas and PriorityLevelConfigurations.

Source: the API documentation of flowcontrol.apiserver.k8s.io/v1, texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import math
from typing import Any

from chandlery.controlplane.builtins import flow
from chandlery.controlplane.builtins.validation.common import (
    Errors,
    dns_label,
    dns_subdomain,
    duplicate,
    each,
    forbidden,
    invalid,
    required,
    unsupported,
)
from chandlery.controlplane.metadata import label_errors
from chandlery.controlplane.types import FieldError, Obj, RequestContext

_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_SUBJECTS = {"ServiceAccount": "serviceAccount", "User": "user", "Group": "group"}
_MOST_QUEUES = 10_000_000
_HASH_BITS = 60
_NAMESPACE = "each member of this list must be '*' or a DNS-1123 label; "


def flow_schema(_: RequestContext, obj: Obj) -> Errors:
    name, spec = obj["metadata"].get("name", ""), obj.get("spec") or {}
    errors: Errors = []
    order, path = spec.get("matchingPrecedence", 0), "spec.matchingPrecedence"
    if order <= 0:
        errors.append(invalid(path, order, "must be a positive value"))
    if order > 10000:
        errors.append(invalid(path, order, "must not be greater than 10000"))
    if order == 1 and name != "exempt":
        errors.append(invalid(path, order, "only the schema named 'exempt' may have matchingPrecedence 1"))
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in ("ByNamespace", "ByUser"):
        errors.append(unsupported("spec.distinguisherMethod.type", method, ("ByNamespace", "ByUser")))
    level = (spec.get("priorityLevelConfiguration") or {}).get("name", "")
    here = "spec.priorityLevelConfiguration.name"
    errors += dns_subdomain(here, level) if level else [required(here, "must reference a priority level")]
    for index, rule in enumerate(spec.get("rules") or ()):
        errors += _rule(rule, f"spec.rules[{index}]")
    return errors + _fixed(flow.MANDATORY_SCHEMAS, name, spec) + _conditions(obj)


def flow_schema_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    del old
    return _conditions(obj) if ctx.subresource == "status" else flow_schema(ctx, obj)


def _fixed(known: dict[str, Obj], name: str, spec: Obj) -> Errors:
    wanted = known.get(name)
    if wanted is None or wanted == spec:
        return []
    return [invalid("spec", spec, f"spec of '{name}' must equal the fixed value")]


def _conditions(obj: Obj) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, one in enumerate((obj.get("status") or {}).get("conditions") or ()):
        here, kind = f"status.conditions[{index}].type", one.get("type", "")
        if kind in seen:
            errors.append(duplicate(here, kind))
        seen.add(kind)
        if not kind:
            errors.append(required(here, "must not be empty"))
    return errors


def _rule(rule: Obj, path: str) -> Errors:
    errors: Errors = []
    for index, subject in enumerate(rule.get("subjects") or ()):
        errors += _subject(subject, f"{path}.subjects[{index}]")
    if not rule.get("subjects"):
        errors.append(required(f"{path}.subjects", "subjects must contain at least one value"))
    if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
        errors.append(required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
    for index, one in enumerate(rule.get("resourceRules") or ()):
        errors += _resource_rule(one, f"{path}.resourceRules[{index}]")
    for index, one in enumerate(rule.get("nonResourceRules") or ()):
        errors += _path_rule(one, f"{path}.nonResourceRules[{index}]")
    return errors


def _subject(subject: Obj, path: str) -> Errors:
    kind = subject.get("kind", "")
    if kind not in _SUBJECTS:
        return [unsupported(f"{path}.kind", kind, tuple(sorted(_SUBJECTS)))]
    field = _SUBJECTS[kind]
    here, found = f"{path}.{field}", subject.get(field)
    errors: Errors = []
    if found is None:
        errors.append(required(here, f"{field} is required when subject kind is '{kind}'"))
    else:
        name = found.get("name", "")
        if not name:
            errors.append(required(f"{here}.name"))
        elif kind == "ServiceAccount" and name != "*":
            errors += dns_subdomain(f"{here}.name", name)
        if kind == "ServiceAccount":
            namespace, text = found.get("namespace", ""), "must specify namespace for service account"
            at = f"{here}.namespace"
            errors += dns_label(at, namespace) if namespace else [required(at, text)]
    for other, name in _SUBJECTS.items():
        if other != kind and subject.get(name) is not None:
            errors.append(forbidden(f"{path}.{name}", f"{name} is forbidden when subject kind is not '{other}'"))
    return errors


def _verbs(rule: Obj, path: str) -> Errors:
    verbs, here = rule.get("verbs") or [], f"{path}.verbs"
    if not verbs:
        return [required(here, "verbs must contain at least one value")]
    if "*" in verbs:
        return [invalid(here, verbs, "if '*' is present, must not specify other verbs")] if len(verbs) > 1 else []
    return [] if set(verbs) <= set(_VERBS) else [unsupported(here, verbs, _VERBS)]


def _resource_rule(rule: Obj, path: str) -> Errors:
    errors = _verbs(rule, path)
    for field, one, others in (("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")):
        found, here = rule.get(field) or [], f"{path}.{field}"
        if not found:
            errors.append(required(here, f"resource rules must supply at least one {one}"))
        elif len(found) > 1 and "*" in found:
            errors.append(invalid(here, found, f"if '*' is present, must not specify other {others}"))
    namespaces, here = rule.get("namespaces") or [], f"{path}.namespaces"
    if not namespaces and not rule.get("clusterScope"):
        text = "resource rules that are not cluster scoped must supply at least one namespace"
        errors.append(required(here, text))
    elif "*" in namespaces:
        if len(namespaces) > 1:
            errors.append(invalid(here, namespaces, "if '*' is present, must not specify other namespaces"))
    else:
        for index, name in enumerate(namespaces):
            errors += each(f"{here}[{index}]", name, [_NAMESPACE + problem for problem in label_errors(name)])
    return errors


def _path_rule(rule: Obj, path: str) -> Errors:
    errors = _verbs(rule, path)
    urls, here = rule.get("nonResourceURLs") or [], f"{path}.nonResourceURLs"
    if not urls:
        errors.append(required(here, "nonResourceURLs must contain at least one value"))
    elif "*" in urls:
        if len(urls) > 1:
            errors.append(invalid(here, urls, "if '*' is present, must not specify other non-resource URLs"))
    else:
        for index, url in enumerate(urls):
            problem = _url_problem(url)
            errors += [invalid(f"{here}[{index}]", url, problem)] if problem else []
    return errors


def _url_problem(url: str) -> str:
    if not url:
        return "must not be empty"
    if url == "/":
        return ""
    if not url.startswith("/"):
        return "must start with slash"
    if " " in url:
        return "must not contain white-space"
    if "//" in url:
        return "must not contain double slash"
    stars = url.count("*")
    return "wildcard can only do suffix matching" if stars > 1 or (stars == 1 and not url.endswith("/*")) else ""


def priority_level(_: RequestContext, obj: Obj) -> Errors:
    name, spec = obj["metadata"].get("name", ""), obj.get("spec") or {}
    kind, errors = spec.get("type", ""), list[FieldError]()
    if (name == "exempt") != (kind == "Exempt"):
        errors.append(invalid("spec.type", kind, "type must be 'Exempt' if and only if name is 'exempt'"))
    limited, exempt = spec.get("limited"), spec.get("exempt")
    if kind == "Exempt":
        if limited is not None:
            errors.append(forbidden("spec.limited", "must be nil if the type is not Limited"))
        if exempt is not None:
            errors += _shares(exempt, "spec.exempt")
    elif kind == "Limited":
        if exempt is not None:
            errors.append(forbidden("spec.exempt", "must be nil if the type is Limited"))
        if limited is None:
            errors.append(required("spec.limited", "must not be empty when type is Limited"))
        else:
            errors += _shares(limited, "spec.limited") + _borrowing(limited)
            errors += _response(limited.get("limitResponse") or {}, "spec.limited.limitResponse")
    else:
        errors.append(unsupported("spec.type", kind, ("Exempt", "Limited")))
    return errors + _fixed(flow.FIXED_LEVELS, name, spec) + _conditions(obj)


def priority_level_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    del old
    return _conditions(obj) if ctx.subresource == "status" else priority_level(ctx, obj)


def _shares(found: Obj, path: str) -> Errors:
    errors: Errors = []
    shares, percent = found.get("nominalConcurrencyShares"), found.get("lendablePercent")
    if shares is not None and shares < 0:
        errors.append(invalid(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer"))
    if percent is not None and not 0 <= percent <= 100:
        errors.append(invalid(f"{path}.lendablePercent", percent, "must be between 0 and 100, inclusive"))
    return errors


def _borrowing(limited: Obj) -> Errors:
    percent = limited.get("borrowingLimitPercent")
    if percent is None or percent >= 0:
        return []
    text = "if specified, must be a non-negative integer"
    return [invalid("spec.limited.borrowingLimitPercent", percent, text)]


def _response(found: Obj, path: str) -> Errors:
    kind, queuing = found.get("type", ""), found.get("queuing")
    if kind == "Reject":
        text = "must be nil if limited.limitResponse.type is not Limited"
        return [forbidden(f"{path}.queuing", text)] if queuing is not None else []
    if kind != "Queue":
        return [unsupported(f"{path}.type", kind, ("Queue", "Reject"))]
    if queuing is None:
        return [required(f"{path}.queuing", "must not be empty if limited.limitResponse.type is Limited")]
    return _queuing(queuing, f"{path}.queuing")


def _queuing(found: Any, path: str) -> Errors:
    errors: Errors = []
    length, queues, hand = (found.get(field, 0) for field in ("queueLengthLimit", "queues", "handSize"))
    if length <= 0:
        errors.append(invalid(f"{path}.queueLengthLimit", length, "must be positive"))
    if queues <= 0:
        errors.append(invalid(f"{path}.queues", queues, "must be positive"))
    elif queues > _MOST_QUEUES:
        errors.append(invalid(f"{path}.queues", queues, f"must not be greater than {_MOST_QUEUES}"))
    if hand <= 0:
        errors.append(invalid(f"{path}.handSize", hand, "must be positive"))
    elif hand > queues:
        errors.append(invalid(f"{path}.handSize", hand, f"should not be greater than queues ({queues})"))
    elif _entropy(queues, hand) > _HASH_BITS:
        text = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {_HASH_BITS}"
        errors.append(invalid(f"{path}.handSize", hand, text))
    return errors


def _entropy(deck: int, hand: int) -> int:
    """How many bits it takes to deal a hand."""
    return math.ceil(sum(math.log2(deck - dealt) for dealt in range(hand)))
