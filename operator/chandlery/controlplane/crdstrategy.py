"""The strategy of CustomResourceDefinition objects: a built-in kind whose rules are those of `crd`."""

from __future__ import annotations

from types import ModuleType

from chandlery.controlplane.builtins.strategy import BuiltinStrategy
from chandlery.controlplane.types import FieldError, Obj, RequestContext, Resource
from chandlery.controlplane.verbs import pods


def _rules() -> ModuleType:
    """The rules of CRDs, imported when the first CRD comes: servers without any start faster."""
    from chandlery.controlplane import crd

    return crd


class CrdStrategy(BuiltinStrategy):
    """Adds the rules of custom resource definitions to what every built-in kind has."""

    def default(self, obj: Obj) -> None:
        _rules().default_crd(obj)

    def prepare_for_create(self, ctx: RequestContext, obj: Obj) -> None:
        _rules().prepare_crd_create(obj)

    def prepare_for_update(self, ctx: RequestContext, obj: Obj, old: Obj) -> None:
        super().prepare_for_update(ctx, obj, old)
        # The storage version never leaves storedVersions, whatever a status says.
        _rules().prepare_crd_update(obj, obj if ctx.subresource else old)

    def validate_create(self, ctx: RequestContext, obj: Obj) -> list[FieldError]:
        return _rules().validate_crd_create(obj)  # type: ignore[no-any-return]

    def validate_update(self, ctx: RequestContext, obj: Obj, old: Obj) -> list[FieldError]:
        return _rules().validate_crd_update(obj, old)  # type: ignore[no-any-return]

    def warnings(self, ctx: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
        return _rules().crd_warnings(obj, old)  # type: ignore[no-any-return]


def install(resources: list[Resource]) -> list[Resource]:
    """Give the CRD kind among these resources its strategy, and pods their other endpoints."""
    pods.install(resources)
    for resource in resources:
        if (resource.group, resource.plural) == ("apiextensions.k8s.io", "customresourcedefinitions"):
            known = resource.strategy
            assert isinstance(known, BuiltinStrategy)
            resource.strategy = CrdStrategy(
                known.group, known.version, known.kind, known.definition, subresources=known.subresources
            )
    return resources
