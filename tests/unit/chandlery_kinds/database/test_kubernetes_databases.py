"""What the kubernetes driver of databases decides without a server."""

from __future__ import annotations

from dataclasses import replace

import pytest
from foreign_crds import BARMAN_CLOUD, CLOUDNATIVE_PG, MARIADB_OPERATOR
from jsonschema import Draft202012Validator

from chandlery.model.backup import S3Destination
from chandlery_kinds.database.drivers.kubernetes import DatabaseDriver
from chandlery_kinds.database.kubernetes import cluster, cluster_backup, mariadb_cluster, mariadb_config, pooler
from chandlery_kinds.database.kubernetes.backup import script
from chandlery_kinds.database.kubernetes.children import children
from chandlery_kinds.database.kubernetes.config import config
from chandlery_kinds.database.kubernetes.inputs import Inputs
from chandlery_kinds.database.kubernetes.parameters import DatabaseParameters
from chandlery_kinds.database.model import Database

UID = "0b8f2f6e-6f0d-4d6c-8f51-0a4a4c4f2d10"


def database(spec):
    meta = {"name": "orders", "namespace": "shop", "uid": UID}
    head = {"apiVersion": Database.names.api_version, "kind": "Database"}
    return Database.model_validate({**head, "metadata": meta, "spec": spec, "status": {}})


def inputs(spec, **more):
    return replace(Inputs.of(database(spec), DatabaseParameters(), {}), **more)


VOLUME = {"destination": {"volume": {"claimName": "safe"}}}
S3 = {"destination": {"s3": {"bucket": "backups"}}}
REFUSED = {
    "snapshot without a place": ({"deletionPolicy": "Snapshot"}, {"spec.deletionPolicy"}),
    "snapshot with one": ({"deletionPolicy": "Snapshot", "backup": VOLUME}, set()),
    "scripts of an owner without a login": (
        {"initialization": {"sqlSecrets": [{"name": "a", "key": "b"}]}, "roles": [{"name": "app", "login": False}]},
        {"spec.initialization.sqlSecrets"},
    ),
    "scripts of mariadb": (
        {"engine": "mariadb", "initialization": {"sqlSecrets": [{"name": "a", "key": "b"}]}},
        {"spec.initialization.sqlSecrets"},
    ),
    "a pooler of mariadb": ({"engine": "mariadb", "pooler": {}}, {"spec.pooler"}),
    "several poolers of mariadb": ({"engine": "mariadb", "pooler": {}, "instances": 2}, {"spec.pooler"}),
    "an owned setting of the pooler": (
        {"pooler": {"configuration": {"pool_mode": "session"}}},
        {"spec.pooler.configuration[pool_mode]"},
    ),
    "a store without credentials": ({"backup": S3}, {"spec.backup.destination.s3.credentialsSecret"}),
    "a store for a single one": (
        {"backup": {"destination": {"s3": {"bucket": "backups", "credentialsSecret": {"name": "store"}}}}},
        set(),
    ),
    "a folder of a machine": (
        {"backup": {"destination": {"directory": {"path": "/srv"}}}},
        {"spec.backup.destination.directory"},
    ),
    "a claim for several": ({"instances": 2, "backup": VOLUME}, {"spec.backup.destination"}),
    "numbers of backups of several": (
        {"instances": 2, "backup": {**S3, "retention": {"count": 3}}},
        {"spec.backup.retention.count"},
    ),
    "other certificates for several": (
        {"instances": 2, "tls": {"issuerRef": {"kind": "Issuer", "name": "ca"}}},
        {"spec.tls.issuerRef"},
    ),
    "statements": ({"instances": 2, "pooler": {"mode": "statement"}}, {"spec.pooler.mode"}),
    "backups of several of mariadb": ({"engine": "mariadb", "instances": 2, "backup": VOLUME}, {"spec.backup"}),
    "two copies that must have a commit": (
        {"engine": "mariadb", "instances": 3, "replication": {"mode": "synchronous", "synchronousInstances": 2}},
        {"spec.replication.synchronousInstances"},
    ),
    "members of roles that log in": (
        {"engine": "mariadb", "roles": [{"name": "a", "memberOf": ["b"]}, {"name": "b"}]},
        {"spec.roles[a].memberOf"},
    ),
    "everything of a single one": (
        {"tls": {}, "metrics": {}, "pooler": {}, "initialization": {"sqlSecrets": [{"name": "a", "key": "b"}]}},
        set(),
    ),
    "volumes of several that stay": ({"instances": 2, "deletionPolicy": "Retain"}, {"spec.deletionPolicy"}),
    "a last backup of several without a place": (
        {"instances": 2, "deletionPolicy": "Snapshot"},
        {"spec.deletionPolicy"},
    ),
    "a last backup of several": ({"instances": 2, "deletionPolicy": "Snapshot", "backup": S3}, set()),
    "a folder of no cluster": (
        {"instances": 2, "restoreFrom": S3},
        {"spec.restoreFrom.destination.s3.prefix"},
    ),
    "volumes of several of mariadb": ({"engine": "mariadb", "instances": 2, "deletionPolicy": "Retain"}, set()),
    "a last backup of several of mariadb": (
        {"engine": "mariadb", "instances": 2, "deletionPolicy": "Snapshot"},
        {"spec.deletionPolicy"},
    ),
    "everything of mariadb": ({"engine": "mariadb", "tls": {}, "metrics": {}, "backup": VOLUME}, set()),
    "everything of several": (
        {
            "instances": 3,
            "tls": {},
            "metrics": {},
            "pooler": {},
            "backup": {**S3, "continuousArchiving": True},
            "exposure": {"type": "LoadBalancer", "allowedCidrs": ["10.0.0.0/8"], "port": 15432},
            "rotation": {"schedule": "@monthly"},
            "databases": [{"name": "a"}, {"name": "b", "extensions": [{"name": "pg_trgm"}]}],
        },
        set(),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_done_is_refused_by_name(case):
    spec, fields = REFUSED[case]
    assert {found.field for found in DatabaseDriver().unsupported(database(spec), DatabaseParameters())} == fields


def test_a_live_setting_changes_another_part_of_the_mark_than_one_that_needs_a_start():
    begin = inputs({"engine": "mariadb"})
    values = mariadb_config.wanted_settings(begin)
    start, live = mariadb_config.revisions(begin)
    warmer = mariadb_config.revisions(replace(begin, applied={**values, "max_connections": "7"}))
    assert (warmer[0], warmer[1] != live) == (start, True)
    other = mariadb_config.revisions(replace(begin, applied={**values, "back_log": "7"}))
    assert (other[0] != start, other[1]) == (True, live)
    text = mariadb_config.config(begin)["data"]["my.cnf"]
    assert f"/{start}-{live}.pid" in text


def test_who_may_come_without_tls():
    rules = [line.split() for line in config(inputs({"tls": {}}))["data"]["pg_hba.conf"].splitlines()]
    assert {line[0] for line in rules} == {"hostssl", "local"}
    beside = config(inputs({"tls": {"required": False}}))["data"]["pg_hba.conf"]
    assert "host all all all scram-sha-256" in beside.splitlines()
    both = {"clientAuthentication": "required", "clientCaSecret": {"name": "ca"}}
    for required in (True, False):
        shown = config(inputs({"tls": {**both, "required": required}}))["data"]["pg_hba.conf"].splitlines()
        assert "hostssl all all all scram-sha-256 clientcert=verify-ca" in shown
        assert not [line for line in shown if line.startswith("host all all")]


def test_backups_and_the_pooler_go_to_the_engine_and_clients_to_the_pooler():
    made = inputs({"pooler": {}, "backup": VOLUME, "exposure": {"type": "LoadBalancer", "port": 15432}})
    assert f"host=orders-database.shop.svc port={5432} " in script(made, made.spec.backup)
    services = {m["metadata"]["name"]: m["spec"] for m in children(made) if m["kind"] == "Service"}
    assert services["orders-database"]["type"] == "ClusterIP"
    assert services["orders-database"]["ports"][0]["port"] == 5432
    [service] = [m for m in pooler.children(made, "a") if m["kind"] == "Service"]
    assert (service["spec"]["type"], service["spec"]["ports"][0]["port"]) == ("LoadBalancer", 15432)
    engine = services["orders-database"]["selector"].items()
    [kept] = pooler.workload(made, None, "")
    assert not engine <= kept.workload["spec"]["template"]["metadata"]["labels"].items()


def test_pods_of_the_pooler_roll_with_another_configuration_or_certificate_only():
    made = inputs({"pooler": {}})
    [first] = pooler.workload(made, None, "one")
    live = first.workload
    [same] = pooler.workload(inputs({"pooler": {"instances": 5}}), live, "one")
    assert same.workload["spec"]["template"] == live["spec"]["template"]
    for other in (
        pooler.workload(made, live, "two"),
        pooler.workload(inputs({"pooler": {"poolSize": 3}}), live, "one"),
    ):
        assert other[0].workload["spec"]["template"] != live["spec"]["template"]
        assert other[0].newer == ""


def _strict(schema):
    """The schema, with nothing allowed that it doesn't name: what the API server would drop is an error here."""
    found = {k: v for k, v in schema.items() if not k.startswith("x-")}
    if "x-kubernetes-int-or-string" in schema:
        return {}
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return {"type": "object"}
    if "properties" in found:
        found["properties"] = {name: _strict(one) for name, one in found["properties"].items()}
    if found.get("type") == "object" and "additionalProperties" not in found:
        found["additionalProperties"] = False
    if "items" in found:
        found["items"] = _strict(found["items"])
    return found


SCHEMAS = {
    crd["spec"]["names"]["kind"]: _strict(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"])
    for crd in (*CLOUDNATIVE_PG, *BARMAN_CLOUD, MARIADB_OPERATOR)
}
FULL = {
    "instances": 3,
    "version": "17",
    "storage": {"size": "5Gi", "className": "fast"},
    "placement": {
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "priorityClassName": "high",
    },
    "resources": {"limits": {"memory": "1Gi"}},
    "replication": {"mode": "synchronous", "failoverDelay": "5s"},
}
STORE = {"bucket": "backups", "region": "eu-central-1", "credentialsSecret": {"name": "keys"}}


def test_other_operators_know_every_field_that_they_are_given():
    spec = {
        **FULL,
        "configuration": {"shared_preload_libraries": "a, b", "work_mem": "8MB"},
        "initialization": {"encoding": "UTF8", "locale": "C"},
        "tls": {"certificateSecret": {"name": "tls"}},
        "pooler": {"resources": {"limits": {"memory": "64Mi"}}},
        "backup": {"schedule": "@daily", "destination": {"s3": STORE}, "retention": {"days": 7}},
        "exposure": {"type": "LoadBalancer"},
    }
    obj = database(spec)
    owner = Inputs.of(obj, DatabaseParameters(), {}).owner
    restore = {"server": "old-database", "s3": STORE}
    made = cluster.children(owner, obj.spec, DatabaseParameters(), {}, ["mirror"])
    made += cluster.children(owner, obj.spec, DatabaseParameters(), {}, restore=restore)
    made.append(cluster_backup.asked_for(owner, "now"))
    maria = database({**FULL, "engine": "mariadb", "version": "11.8", "tls": {}, "exposure": spec["exposure"]})
    made.append(mariadb_cluster.cluster(owner, maria.spec, DatabaseParameters(), {}, ["mirror"]))
    kinds = set()
    for manifest in made:
        if manifest["kind"] in SCHEMAS:
            kinds.add(manifest["kind"])
            Draft202012Validator(SCHEMAS[manifest["kind"]]).validate(manifest["spec"])
    assert kinds == set(SCHEMAS)


def test_how_a_cluster_began_is_never_written_anew():
    obj = database({"instances": 2})
    owner = Inputs.of(obj, DatabaseParameters(), {}).owner
    began = {"initdb": {"database": "other"}}
    again = cluster.cluster(owner, obj.spec, DatabaseParameters(), {}, live={"spec": {"bootstrap": began}})
    assert again["spec"]["bootstrap"] == began
    assert "externalClusters" not in again["spec"]


def test_a_store_needs_no_keys_where_the_workload_has_an_identity():
    owner = Inputs.of(database({}), DatabaseParameters(), {}).owner
    made = cluster_backup.store(owner, S3Destination.model_validate({"bucket": "backups", "prefix": "a/"}))
    assert made["spec"]["configuration"]["s3Credentials"] == {"inheritFromIAMRole": True}
    assert made["spec"]["configuration"]["destinationPath"] == "s3://backups/a"


def test_the_line_of_the_data_decides_where_nobody_asked_for_one():
    obj = database({"engine": "mariadb", "instances": 2})
    owner = Inputs.of(obj, DatabaseParameters(), {}).owner
    made = mariadb_cluster.cluster(owner, obj.spec, DatabaseParameters(), {}, version="12.3")
    assert made["spec"]["image"].endswith(":12.3.3")
    assert Inputs.of(database({"engine": "mariadb"}), DatabaseParameters(), {}, major="10.11").image.endswith(":10.11")
