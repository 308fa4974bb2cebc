"""One round of kr8s, lightkube and pykube-ng each against the server of a kubeconfig; run by an opt-in test.

usage: python other_clients.py KUBECONFIG, with a Python that has the three packages. Prints each one's name when done.
"""

from __future__ import annotations

import sys
from typing import Any

POD = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
DEPLOYMENT = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": POD}


def with_kr8s(kubeconfig: str) -> None:
    import kr8s  # type: ignore[import-not-found,unused-ignore]
    from kr8s.objects import (  # type: ignore[import-not-found,unused-ignore]
        ConfigMap,
        CustomResourceDefinition,
        Deployment,
        Namespace,
        new_class,
    )

    api = kr8s.api(kubeconfig=kubeconfig)
    one = ConfigMap({"metadata": {"name": "kr", "namespace": "default"}, "data": {"a": "b"}}, api=api)
    one.create()
    one.patch({"data": {"c": "d"}})
    assert one.data == {"a": "b", "c": "d"}
    one.label({"x": "y"})
    assert [found.name for found in kr8s.get("configmaps", namespace="default", label_selector={"x": "y"}, api=api)]
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}}
    names = {"plural": "widgets", "kind": "Widget", "singular": "widget"}
    spec = {"group": "kr.example", "scope": "Namespaced", "names": names, "versions": [version]}
    definition = CustomResourceDefinition({"metadata": {"name": "widgets.kr.example"}, "spec": spec}, api=api)
    definition.create()
    definition.wait("condition=Established")
    kind = new_class("Widget", "kr.example/v1", namespaced=True)
    widget = kind({"metadata": {"name": "w", "namespace": "default"}, "spec": {"n": 1}}, api=api)
    widget.create()
    widget.patch({"status": {"n": 1}}, subresource="status")
    widget.refresh()
    assert widget.status.n == 1
    made = Deployment({"metadata": {"name": "d", "namespace": "default"}, "spec": DEPLOYMENT}, api=api)
    made.create()
    made.patch({"spec": {"replicas": 2}})
    assert made.replicas == 2
    for _, found in api.watch("configmaps", namespace="default"):
        if found.name == "kr":
            break
    one.delete()
    one.wait("delete", timeout=60)
    space = Namespace({"metadata": {"name": "kr"}}, api=api)
    space.create()
    space.delete()
    space.wait("delete", timeout=60)


def with_lightkube(kubeconfig: str) -> None:
    from lightkube import Client, KubeConfig  # type: ignore[import-not-found,unused-ignore]
    from lightkube.generic_resource import (  # type: ignore[import-not-found,unused-ignore]
        get_generic_resource,
        load_in_cluster_generic_resources,
    )
    from lightkube.models.meta_v1 import ObjectMeta  # type: ignore[import-not-found,unused-ignore]
    from lightkube.resources.core_v1 import ConfigMap  # type: ignore[import-not-found,unused-ignore]
    from lightkube.types import CascadeType, PatchType  # type: ignore[import-not-found,unused-ignore]

    client = Client(config=KubeConfig.from_file(kubeconfig), field_manager="lightkube")
    where: dict[str, Any] = {"namespace": "default"}
    client.create(ConfigMap(metadata=ObjectMeta(name="lk", **where), data={"a": "b"}))
    found = client.get(ConfigMap, "lk", **where)
    found.data["z"] = "y"
    client.replace(found)
    client.patch(ConfigMap, "lk", {"data": {"p": "q"}}, **where)
    client.patch(ConfigMap, "lk", [{"op": "remove", "path": "/data/p"}], **where, patch_type=PatchType.JSON)
    whole = ConfigMap(
        apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="lk", **where), data={"a": "b", "s": "t"}
    )
    assert client.apply(whole, force=True).data == {"a": "b", "z": "y", "s": "t"}
    assert len(list(client.list(ConfigMap, namespace="*", chunk_size=2))) > 2
    load_in_cluster_generic_resources(client)
    assert client.get(get_generic_resource("kr.example/v1", "Widget"), "w", **where).spec == {"n": 1}
    for _, seen in client.watch(ConfigMap, **where):
        if seen.metadata.name == "lk":
            break
    client.delete(ConfigMap, "lk", **where, cascade=CascadeType.FOREGROUND)


def with_pykube(kubeconfig: str) -> None:
    import pykube  # type: ignore[import-not-found,unused-ignore]

    api = pykube.HTTPClient(pykube.KubeConfig.from_file(kubeconfig))
    body = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pk", "namespace": "default"}, "data": {"a": "b"},
    }  # fmt: skip
    one = pykube.ConfigMap(api, body)
    one.create()
    one.reload()
    one.obj["data"]["x"] = "y"
    one.update()
    one.patch({"data": {"q": "r"}})
    assert one.obj["data"] == {"a": "b", "x": "y", "q": "r"}
    made = pykube.Deployment.objects(api).filter(namespace="default").get(name="d")
    made.replicas = 4
    made.update()
    widgets = pykube.object_factory(api, "kr.example/v1", "Widget")
    assert [found.name for found in widgets.objects(api).filter(namespace="default")] == ["w"]
    for event in pykube.ConfigMap.objects(api).filter(namespace="default").watch():
        if event.object.name == "pk":
            break
    one.delete()
    assert not one.exists()


def main() -> None:
    for name, run in (("kr8s", with_kr8s), ("lightkube", with_lightkube), ("pykube", with_pykube)):
        run(sys.argv[1])
        print(name, flush=True)


if __name__ == "__main__":
    main()
