"""docs/kubernetes.md names the images that the drivers take by themselves."""

import re
from pathlib import Path

import pytest

from chandlery_kinds.cache.kubernetes.inputs import Inputs as CacheInputs
from chandlery_kinds.cache.kubernetes.parameters import CacheParameters
from chandlery_kinds.cache.model import Cache
from chandlery_kinds.database.kubernetes.inputs import Inputs as DatabaseInputs
from chandlery_kinds.database.kubernetes.parameters import DatabaseParameters
from chandlery_kinds.database.model import Database
from chandlery_kinds.loadbalancer.kubernetes.inputs import Inputs as BalancerInputs
from chandlery_kinds.loadbalancer.kubernetes.parameters import LoadBalancerParameters
from chandlery_kinds.loadbalancer.model import LoadBalancer
from chandlery_kinds.queue.kubernetes.inputs import Inputs as QueueInputs
from chandlery_kinds.queue.kubernetes.parameters import QueueParameters
from chandlery_kinds.queue.model import Queue

TEXT = (Path(__file__).parents[3] / "docs" / "kubernetes.md").read_text()
WEB = {"listeners": [{"name": "web", "protocol": "HTTP", "port": 80, "redirectToHttps": True}]}


def an(model, spec):
    meta = {"name": "a", "namespace": "b", "uid": "0b8f2f6e-6f0d-4d6c-8f51-0a4a4c4f2d10"}
    head = {"apiVersion": model.names.api_version, "kind": model.names.kind}
    return model.model_validate({**head, "metadata": meta, "spec": spec, "status": {}})


IMAGES = {
    **{
        engine: lambda engine=engine: CacheInputs.of(an(Cache, {"engine": engine}), CacheParameters(), {})
        for engine in ("valkey", "redis", "memcached")
    },
    "postgres": lambda: DatabaseInputs.of(an(Database, {}), DatabaseParameters(), {}),
    "mariadb": lambda: DatabaseInputs.of(an(Database, {"engine": "mariadb"}), DatabaseParameters(), {}),
    "nats": lambda: QueueInputs.of(an(Queue, {}), QueueParameters(), {}),
    "haproxy": lambda: BalancerInputs.of(an(LoadBalancer, WEB), LoadBalancerParameters(), {}),
}


def test_the_page_names_the_poolers_image():
    assert f"| `pgbouncer` | `{DatabaseInputs.of(an(Database, {}), DatabaseParameters(), {}).pooler}` |" in TEXT


def test_the_page_names_the_image_of_our_own_program():
    assert f"| `chandlery` | `{IMAGES['valkey']().tool}` |" in TEXT
    assert IMAGES["nats"]().tool == IMAGES["valkey"]().tool


@pytest.mark.parametrize("engine", IMAGES)
def test_the_page_names_the_image(engine):
    made = IMAGES[engine]()
    assert f"| `{engine}` | `{made.image}` |" in TEXT
    assert re.search(r":[0-9]+(\.[0-9]+)+(-[a-z0-9.]+)?$", made.image)  # pinned to a release
    assert made.image_said == ""


def test_the_major_version_of_the_data_decides_where_nobody_asked_for_one():
    obj = an(Database, {})
    assert DatabaseInputs.of(obj, DatabaseParameters(), {}, major="16").image.startswith(
        "docker.io/library/postgres:16."
    )
    assert DatabaseInputs.of(an(Database, {"version": "17.2"}), DatabaseParameters(), {}, major="17").image.endswith(
        ":17.2"
    )
    own = DatabaseInputs.of(
        obj, DatabaseParameters(images={"postgres": "registry.example/pg:18.6"}), {"postgres": "mirror/pg:18.6"}
    )
    assert own.image == "registry.example/pg:18.6"
