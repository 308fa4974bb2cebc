"""Rules of RBAC objects, webhook configurations and APIServices.

Source: the field descriptions of these kinds and observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from chandlery.controlplane.builtins.validation.common import (
    Errors,
    dns_subdomain,
    duplicate,
    each,
    invalid,
    invalid_struct,
    label_selector,
    one_of,
    required,
    too_many,
    unsupported,
)
from chandlery.controlplane.builtins.validation.common import dns_1035_errors as label_1035_errors
from chandlery.controlplane.metadata import path_segment_errors, qualified_name_errors, subdomain_errors
from chandlery.controlplane.types import Obj, RequestContext

if TYPE_CHECKING:
    from chandlery.controlplane.cel import Functions

RBAC = "rbac.authorization.k8s.io"


def _rule(rule: Obj, path: str, *, namespaced: bool) -> Errors:
    errors: Errors = []
    if not rule.get("verbs"):
        errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs") or []
    if urls:
        if namespaced:
            text = "namespaced rules cannot apply to non-resource URLs"
            errors.append(invalid(f"{path}.nonResourceURLs", urls, text))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            text = "rules cannot apply to both regular resources and non-resource URLs"
            errors.append(invalid(f"{path}.nonResourceURLs", urls, text))
        return errors
    if not rule.get("apiGroups"):
        errors.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        errors.append(required(f"{path}.resources", "resource rules must supply at least one resource"))
    return errors


def role(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    for index, rule in enumerate(obj.get("rules") or ()):
        errors += _rule(rule, f"rules[{index}]", namespaced=True)
    return errors


# An update of some kinds looks at the object as at a creation and then at the change, which looks at the object again:
# each problem then has two causes in the answer (`* 2`), and is told once in the message.


def role_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    return role(ctx, obj) * 2


def cluster_role(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    for index, rule in enumerate(obj.get("rules") or ()):
        errors += _rule(rule, f"rules[{index}]", namespaced=False)
    aggregation = obj.get("aggregationRule")
    if aggregation is not None:
        here = "aggregationRule.clusterRoleSelectors"
        selectors = aggregation.get("clusterRoleSelectors") or []
        if not selectors:
            text = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            errors.append(required(here, text))
        for index, selector in enumerate(selectors):
            errors += label_selector(selector, f"{here}[{index}]")
    return errors


def cluster_role_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    return cluster_role(ctx, obj) * 2


def _subject(found: Obj, path: str, *, namespaced: bool) -> Errors:
    errors: Errors = []
    name, kind, group = found.get("name", ""), found.get("kind", ""), found.get("apiGroup", "")
    if not name:
        errors.append(required(f"{path}.name"))
    if kind == "ServiceAccount":
        if name:
            errors += dns_subdomain(f"{path}.name", name)
        if group:
            errors.append(unsupported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not found.get("namespace"):
            errors.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != RBAC:
            errors.append(unsupported(f"{path}.apiGroup", group, (RBAC,)))
    else:
        errors.append(unsupported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))
    return errors


def _binding(obj: Obj, *, namespaced: bool) -> Errors:
    errors: Errors = []
    reference = obj.get("roleRef") or {}
    if reference.get("apiGroup") != RBAC:
        errors.append(unsupported("roleRef.apiGroup", reference.get("apiGroup", ""), (RBAC,)))
    kinds = ("Role", "ClusterRole") if namespaced else ("ClusterRole",)
    errors += one_of("roleRef.kind", reference.get("kind", ""), kinds)
    name = reference.get("name", "")
    errors += each("roleRef.name", name, path_segment_errors(name)) if name else [required("roleRef.name")]
    for index, subject in enumerate(obj.get("subjects") or ()):
        errors += _subject(subject, f"subjects[{index}]", namespaced=namespaced)
    return errors


def _same_role(obj: Obj, old: Obj) -> Errors:
    if (obj.get("roleRef") or {}) == (old.get("roleRef") or {}):
        return []
    return [invalid_struct("roleRef", "io.k8s.api.rbac.v1.RoleRef", obj.get("roleRef") or {}, "cannot change roleRef")]


def role_binding(_: RequestContext, obj: Obj) -> Errors:
    return _binding(obj, namespaced=True)


def role_binding_update(_: RequestContext, obj: Obj, old: Obj) -> Errors:
    return _binding(obj, namespaced=True) * 2 + _same_role(obj, old)


def cluster_role_binding(_: RequestContext, obj: Obj) -> Errors:
    return _binding(obj, namespaced=False)


def cluster_role_binding_update(_: RequestContext, obj: Obj, old: Obj) -> Errors:
    return _binding(obj, namespaced=False) * 2 + _same_role(obj, old)


_URL_FORM = "desired format: https://host[/path]"


def webhook_url(path: str, text: str, *, force_https: bool = True) -> Errors:
    try:
        parts = urlsplit(text)
    except ValueError as error:
        return [required(path, f"url must be a valid URL: {error}; {_URL_FORM}")]
    errors: Errors = []
    if force_https and parts.scheme != "https":
        text = f"'https' is the only allowed URL scheme; {_URL_FORM}"
        errors.append(invalid(path, parts.scheme, text))
    if not parts.netloc:
        errors.append(invalid(path, parts.netloc, f"host must be specified; {_URL_FORM}"))
    if parts.username is not None:
        errors.append(invalid(path, parts.username, "user information is not permitted in the URL"))
    if parts.fragment:
        errors.append(invalid(path, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        errors.append(invalid(path, parts.query, "query parameters are not permitted in the URL"))
    return errors


def webhook_service(path: str, found: Obj) -> Errors:
    errors: Errors = []
    for field in ("name", "namespace"):
        if not found.get(field):
            errors.append(required(f"{path}.{field}", f"service {field} is required"))
    port = found.get("port")
    if port is not None and not 1 <= port <= 65535:
        errors.append(invalid(f"{path}.port", port, "port is not valid: must be between 1 and 65535, inclusive"))
    where = found.get("path")
    if where is None or where == "/":
        return errors
    if not where.startswith("/"):
        errors.append(invalid(f"{path}.path", where, "must start with a '/'"))
    steps = where[1:].split("/")
    for index, step in enumerate(steps):
        if not step and (index != len(steps) - 1 or len(steps) == 1):
            errors.append(invalid(f"{path}.path", where, f"segment[{index}] may not be empty"))
        elif step:
            for problem in subdomain_errors(step):
                errors.append(invalid(f"{path}.path", where, f"segment[{index}]: {problem}"))
    return errors


_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")


def webhook_rule(rule: Obj, path: str) -> Errors:
    """Which operations on which resources; the order is the API's."""
    errors: Errors = []
    operations = rule.get("operations") or []
    if not operations:
        errors.append(required(f"{path}.operations"))
    if len(operations) > 1 and "*" in operations:
        text = "if '*' is present, must not specify other operations"
        errors.append(invalid(f"{path}.operations", operations, text))
    for index, one in enumerate(operations):
        errors += one_of(f"{path}.operations[{index}]", one, _OPERATIONS)
    for field, words in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = rule.get(field) or []
        if not values:
            errors.append(required(f"{path}.{field}"))
        if len(values) > 1 and "*" in values:
            text = f"if '*' is present, must not specify other {words}"
            errors.append(invalid(f"{path}.{field}", values, text))
    for index, version in enumerate(rule.get("apiVersions") or ()):
        if not version:
            errors.append(required(f"{path}.apiVersions[{index}]"))
    errors += _resources(rule.get("resources") or [], f"{path}.resources")
    if rule.get("scope") is not None:
        errors += one_of(f"{path}.scope", rule["scope"], ("*", "Cluster", "Namespaced"))
    return errors


def _resources(values: list[str], path: str) -> Errors:
    errors: Errors = [] if values else [required(path)]
    all_subresources: set[str] = set()
    all_resources: set[str] = set()
    whole = False
    for index, value in enumerate(values):
        here = f"{path}[{index}]"
        name, slash, sub = value.partition("/")
        if not value:
            errors.append(required(here))
        elif not slash:
            whole = value != "*"
        else:
            if name in all_subresources:
                errors.append(invalid(here, value, f"if '{name}/*' is present, must not specify {value}"))
            if sub in all_resources:
                errors.append(invalid(here, value, f"if '*/{sub}' is present, must not specify {value}"))
            if sub == "*":
                all_subresources.add(name)
            if name == "*":
                all_resources.add(sub)
    if len(values) > 1 and "*/*" in values:
        errors.append(invalid(path, values, "if '*/*' is present, must not specify other resources"))
    if "*" in values and whole:
        text = "if '*' is present, must not specify other resources without subresources"
        errors.append(invalid(path, values, text))
    return errors


def _webhook(hook: Obj, path: str, *, mutating: bool) -> Errors:
    errors: Errors = []
    name = hook.get("name", "")
    problems = subdomain_errors(name) if name else []
    if not name:
        errors.append(required(f"{path}.name"))
    elif problems:
        errors += each(f"{path}.name", name, problems)
    elif name.count(".") < 2:
        text = "should be a domain with at least three segments separated by dots"
        errors.append(invalid(f"{path}.name", name, text))
    for index, rule in enumerate(hook.get("rules") or ()):
        errors += webhook_rule(rule, f"{path}.rules[{index}]")
    policy = hook.get("failurePolicy")
    if policy is not None:
        errors += one_of(f"{path}.failurePolicy", policy, ("Fail", "Ignore"))
    if hook.get("matchPolicy") is not None:
        errors += one_of(f"{path}.matchPolicy", hook["matchPolicy"], ("Equivalent", "Exact"))
    effects = hook.get("sideEffects")
    if effects is None:
        errors.append(required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun"))
    elif effects not in ("None", "NoneOnDryRun"):
        errors.append(unsupported(f"{path}.sideEffects", effects, ("None", "NoneOnDryRun")))
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        text = "the timeout value must be between 1 and 30 seconds"
        errors.append(invalid(f"{path}.timeoutSeconds", seconds, text))
    for field in ("namespaceSelector", "objectSelector"):
        errors += label_selector(hook.get(field), f"{path}.{field}")
    if mutating and hook.get("reinvocationPolicy") is not None:
        errors += one_of(f"{path}.reinvocationPolicy", hook["reinvocationPolicy"], ("IfNeeded", "Never"))
    errors += _client(hook.get("clientConfig") or {}, f"{path}.clientConfig")
    errors += match_conditions(hook.get("matchConditions") or [], f"{path}.matchConditions")
    return errors + _versions(hook.get("admissionReviewVersions") or [], f"{path}.admissionReviewVersions")


def _client(found: Obj, path: str) -> Errors:
    url, service = found.get("url"), found.get("service")
    if (url is None) == (service is None):
        return [required(path, "exactly one of url or service is required")]
    if url is not None:
        return webhook_url(f"{path}.url", url)
    return webhook_service(f"{path}.service", service or {})


_VERSION = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def _versions(found: list[str], path: str) -> Errors:
    if not found:
        return [required(path, "must specify one of v1, v1beta1")]
    errors: Errors = []
    for index, version in enumerate(found):
        here = f"{path}[{index}]"
        if version in found[:index]:
            errors.append(invalid(here, version, "duplicate version"))
            continue
        errors += each(here, version, label_1035_errors(version))
    if not errors and not set(found) & {"v1", "v1beta1"}:
        errors.append(invalid(path, found, "must include at least one of v1, v1beta1"))
    return errors


def expression_errors(
    path: str, text: str, *, result: str, names: tuple[str, ...] = (), functions: Functions | None = None
) -> Errors:
    """Whether a CEL expression of admission compiles; `names` are variables besides object, oldObject and request."""
    from chandlery.controlplane.admission.conditions import NAMES, compile_program

    try:
        compile_program(text, (*NAMES, *names), result=result, functions=functions)
    except ValueError as error:
        return [invalid(path, text, getattr(error, "detail", f"compilation failed: {error}"))]
    return []


def match_conditions(found: list[Obj], path: str, names: tuple[str, ...] = ()) -> Errors:
    errors: Errors = []
    if len(found) > 64:
        errors.append(too_many(path, len(found), 64))
    known: set[str] = set()
    for index, condition in enumerate(found):
        here = f"{path}[{index}]"
        name, expression = condition.get("name", ""), condition.get("expression", "")
        if not expression.strip():
            errors.append(required(f"{here}.expression"))
        else:
            errors += expression_errors(f"{here}.expression", expression, result="bool", names=names)
        if not name:
            errors.append(required(f"{here}.name"))
        elif name in known:
            errors.append(duplicate(f"{here}.name", name))
        else:
            errors += each(f"{here}.name", name, qualified_name_errors(name))
        known.add(name)
    return errors


def _webhooks(obj: Obj, *, mutating: bool) -> Errors:
    errors: Errors = []
    names: set[str] = set()
    for index, hook in enumerate(obj.get("webhooks") or ()):
        errors += _webhook(hook, f"webhooks[{index}]", mutating=mutating)
        name = hook.get("name", "")
        if name and name in names:
            errors.append(duplicate(f"webhooks[{index}].name", name))
        names.add(name)
    return errors


def mutating_webhooks(_: RequestContext, obj: Obj) -> Errors:
    return _webhooks(obj, mutating=True)


def mutating_webhooks_update(_: RequestContext, obj: Obj, old: Obj) -> Errors:
    del old
    return _webhooks(obj, mutating=True)


def validating_webhooks(_: RequestContext, obj: Obj) -> Errors:
    return _webhooks(obj, mutating=False)


def validating_webhooks_update(_: RequestContext, obj: Obj, old: Obj) -> Errors:
    del old
    return _webhooks(obj, mutating=False)


def api_service(_: RequestContext, obj: Obj) -> Errors:
    spec: Any = obj.get("spec") or {}
    group, version = spec.get("group", ""), spec.get("version", "")
    name = obj["metadata"].get("name") or ""
    errors: Errors = []
    wanted = f"{version}.{group}"
    if name != wanted and name:
        errors.append(
            invalid("metadata.name", name, f'must be `spec.version+"."+spec.group`: {wanted!r}'.replace("'", '"'))
        )
    if not group and version != "v1":
        errors.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    elif group:
        errors += dns_subdomain("spec.group", group)
    errors += each("spec.version", version, label_1035_errors(version))
    for field, limit in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        value = spec.get(field, 0)
        if value <= 0 or value > limit:
            errors.append(invalid(f"spec.{field}", value, f"must be positive and less than {limit}"))
    service = spec.get("service")
    if service is None:
        if spec.get("caBundle"):
            text = "local APIServices may not have a caBundle"
            errors.append(invalid("spec.caBundle", f"{len(spec['caBundle'])} bytes", text))
        if spec.get("insecureSkipTLSVerify"):
            text = "local APIServices may not have insecureSkipTLSVerify"
            errors.append(invalid("spec.insecureSkipTLSVerify", spec["insecureSkipTLSVerify"], text))
        return errors
    for field in ("namespace", "name"):
        if not service.get(field):
            errors.append(required(f"spec.service.{field}"))
    port = service.get("port", 0)
    if not 1 <= port <= 65535:
        errors.append(invalid("spec.service.port", port, "port is not valid: must be between 1 and 65535, inclusive"))
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        text = "may not be true if caBundle is present"
        errors.append(invalid("spec.insecureSkipTLSVerify", spec["insecureSkipTLSVerify"], text))
    return errors


def api_service_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    if ctx.subresource != "status":
        return api_service(ctx, obj)
    errors: Errors = []
    for index, condition in enumerate((obj.get("status") or {}).get("conditions") or ()):
        here = f"status.conditions[{index}].status"
        errors += one_of(here, condition.get("status", ""), ("True", "False", "Unknown"))
    return errors
