"""Rules of ValidatingAdmissionPolicies, MutatingAdmissionPolicies and their bindings.

Source: the field descriptions of these kinds in the Kubernetes 1.36 API.
"""

from __future__ import annotations

import re

from chandlery.controlplane.builtins.validation.access import expression_errors, match_conditions, webhook_rule
from chandlery.controlplane.builtins.validation.common import (
    Errors,
    duplicate,
    forbidden,
    invalid,
    label_selector,
    one_of,
    qualified_name,
    required,
)
from chandlery.controlplane.types import Obj, RequestContext

_NAMES = ("namespaceObject", "variables")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_ACTIONS = ("Audit", "Deny", "Warn")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _match(found: Obj, path: str, *, need_rules: bool) -> Errors:
    errors: Errors = []
    if need_rules and not found.get("resourceRules"):
        errors.append(required(f"{path}.resourceRules"))
    for field in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(found.get(field) or ()):
            here = f"{path}.{field}[{index}]"
            errors += webhook_rule(rule, here)
            names = rule.get("resourceNames") or []
            for position, name in enumerate(names):
                if name in names[:position]:
                    errors.append(duplicate(f"{here}.resourceNames[{position}]", name))
    if found.get("matchPolicy") is not None:
        errors += one_of(f"{path}.matchPolicy", found["matchPolicy"], ("Equivalent", "Exact"))
    for field in ("namespaceSelector", "objectSelector"):
        errors += label_selector(found.get(field), f"{path}.{field}")
    return errors


def _validation(found: Obj, path: str, names: tuple[str, ...]) -> Errors:
    errors: Errors = []
    expression = found.get("expression") or ""
    if not expression.strip():
        errors.append(required(f"{path}.expression", "expression is not specified"))
    else:
        errors += expression_errors(f"{path}.expression", expression, result="bool", names=names)
    message = found.get("message") or ""
    if message and not message.strip():
        errors.append(invalid(f"{path}.message", message, "message must be non-empty if specified"))
    elif "\n" in message.strip():
        errors.append(invalid(f"{path}.message", message, "message must not contain line breaks"))
    elif "\n" in expression.strip() and not message:
        errors.append(required(f"{path}.message", "message must be specified if expression contains line breaks"))
    text = found.get("messageExpression") or ""
    if text and not text.strip():
        errors.append(invalid(f"{path}.messageExpression", text, "must be non-empty if specified"))
    elif text:
        errors += expression_errors(f"{path}.messageExpression", text, result="string", names=names)
    if found.get("reason") is not None:
        errors += one_of(f"{path}.reason", found["reason"], _REASONS)
    return errors


_MOST_ANNOTATIONS, _LONGEST_VALUE = 20, 5 * 1024


def _annotations(name: str, found: list[Obj], names: tuple[str, ...]) -> Errors:
    """What a policy notes in the audit log."""
    errors: Errors = []
    known: set[str] = set()
    if len(found) > _MOST_ANNOTATIONS:
        text = f"must not have more than {_MOST_ANNOTATIONS} auditAnnotations"
        errors.append(invalid("spec.auditAnnotations", found, text))
    for index, note in enumerate(found):
        here = f"spec.auditAnnotations[{index}]"
        key, value = note.get("key") or "", (note.get("valueExpression") or "").strip()
        if name:
            errors += qualified_name(f"{here}.key", f"{name}/{key}")
        else:
            errors.append(invalid(f"{here}.key", key, "requires metadata.name be non-empty"))
        if not value:
            errors.append(required(f"{here}.valueExpression", "valueExpression is not specified"))
        elif len(value.encode()) > _LONGEST_VALUE:
            text = f"must not exceed {_LONGEST_VALUE} bytes in length"
            errors.append(required(f"{here}.valueExpression", text))
        else:
            errors += expression_errors(f"{here}.valueExpression", value, result="string null", names=names)
        if key in known:
            errors.append(duplicate(f"{here}.key", key))
        known.add(key)
    return errors


def _variables(found: list[Obj], path: str, names: tuple[str, ...]) -> Errors:
    errors: Errors = []
    known: set[str] = set()
    for index, variable in enumerate(found):
        here = f"{path}[{index}]"
        name, expression = variable.get("name") or "", variable.get("expression") or ""
        if not _IDENTIFIER.fullmatch(name):
            errors.append(invalid(f"{here}.name", name, "name is not a valid CEL identifier"))
        elif name in known:
            errors.append(duplicate(f"{here}.name", name))
        known.add(name)
        if not expression.strip():
            errors.append(required(f"{here}.expression", "expression is not specified"))
        else:
            errors += expression_errors(f"{here}.expression", expression, result="", names=names)
    return errors


def _common(spec: Obj) -> tuple[tuple[str, ...], Errors]:
    """What both kinds of policies have; the names that expressions know, and what is wrong."""
    errors: Errors = []
    names: tuple[str, ...] = _NAMES
    kind = spec.get("paramKind")
    if kind is not None:
        names = (*names, "params")
        for field in ("apiVersion", "kind"):
            if not kind.get(field):
                errors.append(required(f"spec.paramKind.{field}"))
    if spec.get("failurePolicy") is not None:
        errors += one_of("spec.failurePolicy", spec["failurePolicy"], ("Fail", "Ignore"))
    constraints = spec.get("matchConstraints")
    if constraints is None:
        errors.append(required("spec.matchConstraints"))
    else:
        errors += _match(constraints, "spec.matchConstraints", need_rules=True)
    errors += match_conditions(spec.get("matchConditions") or [], "spec.matchConditions", names)
    errors += _variables(spec.get("variables") or [], "spec.variables", names)
    return names, errors


def policy(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    names, errors = _common(spec)
    validations, notes = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not validations and not notes:
        text = "validations or auditAnnotations must be provided"
        errors += [required("spec.validations", text), required("spec.auditAnnotations", text)]
    for index, found in enumerate(validations):
        errors += _validation(found, f"spec.validations[{index}]", names)
    return errors + _annotations(obj["metadata"].get("name") or "", notes, names)


def policy_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    return policy(ctx, obj)


_PATCH_FIELDS = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}
_PATCH_RESULTS = {"ApplyConfiguration": "Object", "JSONPatch": "list(JSONPatch)"}


def mutating_policy(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    names, errors = _common(spec)
    mutations = spec.get("mutations") or []
    if not mutations:
        errors.append(required("spec.mutations", "mutations must contain at least one item"))
    for index, found in enumerate(mutations):
        errors += _mutation(found, f"spec.mutations[{index}]", names)
    reinvocation = spec.get("reinvocationPolicy", "")
    return errors + one_of("spec.reinvocationPolicy", reinvocation, ("IfNeeded", "Never"), need=True)


def _mutation(found: Obj, path: str, names: tuple[str, ...]) -> Errors:
    from chandlery.controlplane.admission.policies.mutationlib import mutation_functions

    kind = found.get("patchType", "")
    if kind not in _PATCH_FIELDS:
        return one_of(f"{path}.patchType", kind, tuple(_PATCH_FIELDS), need=True)
    errors: Errors = []
    for other, field in _PATCH_FIELDS.items():
        if other == kind and found.get(field) is None:
            errors.append(required(f"{path}.{field}", f"must be specified when patchType is {kind}"))
        elif other != kind and found.get(field) is not None:
            errors.append(forbidden(f"{path}.{field}", f"must not be specified when patchType is {kind}"))
    given = found.get(_PATCH_FIELDS[kind])
    if given is None:
        return errors
    here, expression = f"{path}.{_PATCH_FIELDS[kind]}.expression", given.get("expression") or ""
    if not expression.strip():
        return [*errors, required(here, "expression is not specified")]
    return errors + expression_errors(
        here, expression, result=_PATCH_RESULTS[kind], names=names, functions=mutation_functions()
    )


def mutating_policy_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    return mutating_policy(ctx, obj)


def mutating_binding(_: RequestContext, obj: Obj) -> Errors:
    return _bound(obj.get("spec") or {})


def mutating_binding_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    return mutating_binding(ctx, obj)


def _bound(spec: Obj) -> Errors:
    """What bindings of both kinds have."""
    errors: Errors = []
    if not spec.get("policyName"):
        errors.append(required("spec.policyName"))
    param = spec.get("paramRef")
    if param is not None:
        if bool(param.get("name")) == (param.get("selector") is not None):
            errors.append(required("spec.paramRef.name", "one of name or selector must be specified"))
        action = param.get("parameterNotFoundAction")
        if not action:
            errors.append(required("spec.paramRef.parameterNotFoundAction"))
        else:
            errors += one_of("spec.paramRef.parameterNotFoundAction", action, ("Allow", "Deny"))
    if spec.get("matchResources") is not None:
        errors += _match(spec["matchResources"], "spec.matchResources", need_rules=False)
    return errors


def binding(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors = _bound(spec)
    actions = spec.get("validationActions") or []
    if not actions:
        errors.append(required("spec.validationActions"))
    for index, action in enumerate(actions):
        errors += one_of(f"spec.validationActions[{index}]", action, _ACTIONS)
        if action in actions[:index]:
            errors.append(duplicate(f"spec.validationActions[{index}]", action))
    if "Deny" in actions and "Warn" in actions:
        errors.append(forbidden("spec.validationActions", 'must not contain both "Deny" and "Warn"'))
    return errors


def binding_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    del old
    return binding(ctx, obj)
