"""No body, however odd, makes a built-in kind fail: it is taken, refused as invalid or refused as unreadable."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest

from chandlery.controlplane.builtins import builtin_resources
from chandlery.controlplane.builtins.data import definitions
from chandlery.controlplane.types import ApiError, Obj, RequestContext, Resource, UserInfo

STORED = [r for r in builtin_resources() if "list" in r.verbs and r.kind != "CustomResourceDefinition"]
TEXTS = (
    "a", "", "Always", "None", "10.0.0.1", "::1", "a/b", "1Gi", "500m", "-1", "LoadBalancer", "*", "http://x/y", "In",
    "TCP", "x.example/y", "Indexed", "RollingUpdate", "@hourly", "é" * 300, "9" * 5000, "1e999999999",
)  # fmt: skip
ODD: tuple[Any, ...] = (None, "", 0, -1, [], {}, True, 1.5, [None], {"a": None}, 99999999999, [{}], [[]], {"": ""})


class Maker:
    """Objects after the schemas, with values that are often wrong."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def value(self, schema: Obj, depth: int = 0) -> Any:
        if self.dice.random() < 0.02:
            return copy.deepcopy(self.dice.choice(ODD))
        if "$ref" in schema:
            return self.value(definitions()[schema["$ref"].rsplit("/", 1)[1]], depth)
        if "allOf" in schema:
            return self.value(schema["allOf"][0], depth)
        if "properties" in schema:
            likely = 0.5 if depth < 3 else 0.25
            return {
                name: self.value(inner, depth + 1)
                for name, inner in schema["properties"].items()
                if depth < 9 and name != "managedFields" and self.dice.random() < likely
            }
        return self.leaf(schema, depth)

    def leaf(self, schema: Obj, depth: int) -> Any:
        if schema.get("enum") and self.dice.random() < 0.8:
            return self.dice.choice(schema["enum"])
        kind, form = schema.get("type"), schema.get("format")
        if form == "int-or-string":
            return self.dice.choice((1, 0, -1, "50%", "abc", "9" * 5000 + "%"))
        if kind == "array":
            return [self.value(schema["items"], depth + 1) for _ in range(self.dice.randint(0, 2))]
        if kind == "object":
            inner = schema.get("additionalProperties")
            keys = [self.dice.choice(("a", "cpu", "storage", "x.y/z", "", "A_b", "pods")) for _ in range(2)]
            return {key: self.value(inner, depth + 1) for key in keys} if isinstance(inner, dict) else {}
        if form == "date-time":
            return self.dice.choice(("2020-01-01T00:00:00Z", "2020-01-01T00:00:00.5+01:00", "never"))
        simple = {"integer": (0, 1, -1, 80, 65536, 2**31 - 1), "number": (0, 1.5), "boolean": (True, False)}
        return self.dice.choice(simple.get(str(kind), TEXTS))

    def object(self, resource: Resource) -> Obj:
        made = self.value(definitions()[resource.strategy.definition])  # type: ignore[attr-defined]
        obj: Obj = made if isinstance(made, dict) else {}
        group = f"{resource.group}/" if resource.group else ""
        labels = {"a": "b"}
        return {
            **obj,
            "apiVersion": group + resource.version,
            "kind": resource.kind,
            "metadata": {"name": "a", "uid": "u", "namespace": "n", "labels": labels},
        }


async def through(resource: Resource, obj: Obj, old: Obj | None, subresource: str = "") -> None:
    strategy = resource.strategy
    ctx = RequestContext(
        user=UserInfo("ann"), verb="create" if old is None else "update", resource=resource, subresource=subresource
    )
    strategy.decode(obj)
    strategy.default(obj)
    if old is None:
        strategy.prepare_for_create(ctx, obj)
        strategy.validate_create(ctx, obj)
    else:
        strategy.prepare_for_update(ctx, obj, old)
        strategy.validate_update(ctx, obj, old)
    strategy.warnings(ctx, obj, old)
    strategy.table_cells(obj)
    strategy.selectable_fields(obj)
    await strategy.from_storage(await strategy.to_storage(copy.deepcopy(obj)))
    json.dumps(obj)


@pytest.mark.parametrize("resource", STORED, ids=lambda r: f"{r.kind}-{r.version}")
async def test_any_object_has_an_answer(resource: Resource) -> None:
    maker, taken = Maker(36), 0
    codes: set[int] = set()
    old: Obj | None = None
    for _ in range(25):
        obj = maker.object(resource)
        try:
            await through(resource, obj, None)
            taken += 1
            for subresource in ("", "status") if old is not None else ():
                await through(resource, copy.deepcopy(obj), old, subresource)
            old = obj
        except ApiError as error:
            codes.add(error.code)
    assert codes <= {400}
    assert taken, "every object was unreadable"
