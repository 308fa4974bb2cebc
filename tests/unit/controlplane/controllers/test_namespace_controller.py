"""The life of a namespace: what it is given, and how it ends."""

import time
from typing import Any

from chandlery.controlplane.types import ApiError


def conditions(namespace: Any) -> dict[str, tuple[str, str]]:
    return {found["type"]: (found["status"], found["message"]) for found in namespace["status"]["conditions"]}


async def test_every_namespace_gets_its_account_and_certificate(world: Any) -> None:
    await world.create("namespaces", "one", namespace="")
    await world.until(lambda: world.get("serviceaccounts", "default", "one"))
    config = await world.until(lambda: world.get("configmaps", "kube-root-ca.crt", "one"))
    assert config["data"] == {"ca.crt": "PEM"}
    await world.delete("serviceaccounts", "default", "one")
    await world.until(lambda: world.get("serviceaccounts", "default", "one"))
    await world.change("configmaps", config, data={"ca.crt": "something else"})
    await world.until(lambda: world.get("configmaps", "kube-root-ca.crt", "one")["data"] == {"ca.crt": "PEM"})
    await world.delete("configmaps", "kube-root-ca.crt", "one")
    await world.until(lambda: world.get("configmaps", "kube-root-ca.crt", "one"))


async def test_it_ends_with_its_content(world: Any) -> None:
    await world.create("namespaces", "one", namespace="")
    for number in range(20):
        await world.create("configmaps", f"c{number}", "one")
    start = time.perf_counter()
    await world.delete("namespaces", "one", "")
    await world.until(lambda: not world.get("namespaces", "one", ""))
    assert time.perf_counter() - start < 0.5
    assert world.api.list("", "configmaps", "one") == []
    assert world.api.list("", "serviceaccounts", "one") == []


async def test_it_says_what_holds_it_up(world: Any) -> None:
    await world.create("namespaces", "one", namespace="")
    await world.create("configmaps", "held", "one", metadata={"finalizers": ["hold.example/x"]})
    await world.delete("namespaces", "one", "")
    namespace = await world.until(lambda: _reported(world))
    found = conditions(namespace)
    assert found["NamespaceContentRemaining"] == (
        "True",
        "Some resources are remaining: configmaps. has 1 resource instances",
    )
    assert found["NamespaceFinalizersRemaining"] == (
        "True",
        "Some content in the namespace has finalizers remaining: hold.example/x in 1 resource instances",
    )
    assert found["NamespaceDeletionContentFailure"][0] == "False"
    await world.change("configmaps", world.get("configmaps", "held", "one"), metadata={"finalizers": None})
    await world.until(lambda: not world.get("namespaces", "one", ""))


def _reported(world: Any) -> Any:
    namespace = world.get("namespaces", "one", "")
    return namespace if namespace["status"].get("conditions") else None


async def test_another_finalizer_keeps_it_after_the_controller_is_done(world: Any) -> None:
    namespace = await world.create("namespaces", "one", namespace="")
    await world.settled()
    spec = {"finalizers": ["kubernetes", "extra.example/z"]}
    await world.change("namespaces", namespace, subresource="finalize", spec=spec)
    await world.delete("namespaces", "one", "")
    await world.until(lambda: world.get("namespaces", "one", "")["spec"]["finalizers"] == ["extra.example/z"])
    await world.settled()
    namespace = world.get("namespaces", "one", "")
    assert conditions(namespace)["NamespaceContentRemaining"] == ("False", "All content successfully removed")
    await world.change("namespaces", namespace, subresource="finalize", spec={})
    await world.until(lambda: not world.get("namespaces", "one", ""))


async def test_a_name_can_be_used_again(world: Any) -> None:
    for _ in range(3):
        await world.create("namespaces", "one", namespace="")
        await world.until(lambda: world.get("serviceaccounts", "default", "one"))
        await world.delete("namespaces", "one", "")
        await world.until(lambda: not world.get("namespaces", "one", ""))


async def test_it_tries_again_when_a_deletion_was_refused(world: Any) -> None:
    await world.create("namespaces", "one", namespace="")
    await world.create("configmaps", "c", "one")
    await world.settled()
    admission = world.core.admission
    allowed = False

    class Gate:
        async def mutate(self, ctx: Any, obj: Any, old: Any) -> Any:
            return await admission.mutate(ctx, obj, old)

        async def validate(self, ctx: Any, obj: Any, old: Any) -> None:
            if not allowed and obj is None and ctx.resource.plural == "configmaps" and ctx.name == "c":
                raise ApiError(403, "Forbidden", "not yet")

        async def close(self) -> None: ...

    world.core.admission = Gate()
    await world.delete("namespaces", "one", "")
    namespace = await world.until(lambda: _reported(world))
    status, message = conditions(namespace)["NamespaceDeletionContentFailure"]
    assert (status, message) == ("True", "Failed to delete all resource types, 1 remaining: not yet")
    allowed = True
    await world.until(lambda: not world.get("namespaces", "one", ""))
