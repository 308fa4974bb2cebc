"""The manifests that an earlier version made, to the letter, and what every pod of ours must keep to.

A difference here rolls out at users: when it is meant, write the files anew with CHANDLERY_WRITE_GOLDEN=1 and say in
the commit why. Pod templates of what runs stay as they were all the same (see the tests of `templates`).
"""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from chandlery.providers.kubernetes import backup as backed
from chandlery.providers.kubernetes.pods import budget
from chandlery_kinds.cache.acl import admin, application
from chandlery_kinds.cache.kubernetes import backup as cache_backup
from chandlery_kinds.cache.kubernetes import children as cache
from chandlery_kinds.cache.kubernetes import memcached
from chandlery_kinds.cache.kubernetes.config import config as cache_config
from chandlery_kinds.cache.kubernetes.config import probe
from chandlery_kinds.cache.kubernetes.inputs import Inputs as CacheInputs
from chandlery_kinds.cache.kubernetes.parameters import CacheParameters
from chandlery_kinds.cache.model import Cache
from chandlery_kinds.cache.valkey import desired_settings
from chandlery_kinds.database.kubernetes import pooler as database_pooler
from chandlery_kinds.database.kubernetes.children import children as database_children
from chandlery_kinds.database.kubernetes.inputs import Inputs as DatabaseInputs
from chandlery_kinds.database.kubernetes.parameters import DatabaseParameters
from chandlery_kinds.database.kubernetes.statefulset import stateful_set as database_set
from chandlery_kinds.database.model import Database
from chandlery_kinds.loadbalancer.haproxy import mark_of
from chandlery_kinds.loadbalancer.kubernetes import config as balancer_config
from chandlery_kinds.loadbalancer.kubernetes.deployment import deployment
from chandlery_kinds.loadbalancer.kubernetes.inputs import Inputs as BalancerInputs
from chandlery_kinds.loadbalancer.kubernetes.parameters import LoadBalancerParameters
from chandlery_kinds.loadbalancer.kubernetes.service import service
from chandlery_kinds.loadbalancer.model import LoadBalancer
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.kubernetes import backup as queue_backup
from chandlery_kinds.queue.kubernetes import children as queue
from chandlery_kinds.queue.kubernetes import config as queue_config
from chandlery_kinds.queue.kubernetes import rabbit
from chandlery_kinds.queue.kubernetes.inputs import Inputs as QueueInputs
from chandlery_kinds.queue.kubernetes.parameters import QueueParameters
from chandlery_kinds.queue.kubernetes.statefulset import stateful_set as queue_set
from chandlery_kinds.queue.model import Queue

FOREIGN = ("ServiceMonitor",)
"""Kinds of other operators, whose schemas aren't the API server's own."""
GOLDEN = Path(__file__).parents[2] / "golden"
PLACED = {
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "data", "effect": "NoSchedule"}],
    "spread": {"policy": "Required"},
}


def an(model, spec, name="orders"):
    names = model.names
    return model.model_validate(
        {
            "apiVersion": names.api_version,
            "kind": names.kind,
            "metadata": {"name": name, "namespace": "shop", "uid": "0b8f2f6e-6f0d-4d6c-8f51-0a4a4c4f2d10"},
            "spec": spec,
            "status": {},
        }
    )


def caches(spec, parameters=None, restore=None):
    inputs = CacheInputs.of(an(Cache, spec), CacheParameters.model_validate(parameters or {}), {})
    inputs = replace(inputs, restore=restore)
    users = [admin("a"), application(["b"]), probe()]
    secret = cache_config(inputs, desired_settings(inputs.spec), users, "a", "m")
    made = cache.children(inputs, secret, cache.workload(inputs, None).workload, monitors=True)
    return [*made, *backups(inputs, cache_backup)]


def backups(inputs, builders):
    """The CronJob, as the pass makes it."""
    backup = inputs.spec.backup
    return backed.cron_job(inputs.owner, backup, builders.template(inputs)) if backup is not None else []


def balancers(spec):
    inputs = BalancerInputs.of(an(LoadBalancer, spec), LoadBalancerParameters(), {}, ["mirror"])
    words, _ = balancer_config.text(inputs, {}, {}, {}, {})
    secret = balancer_config.config(inputs, words, [], "admin", "ca")
    return [secret, service(inputs), *budget(inputs.owner, inputs.spec.replicas), deployment(inputs, mark_of(words))]


def caches_by_memcached(spec):
    inputs = CacheInputs.of(an(Cache, spec), CacheParameters.model_validate({"networkPolicy": True}), {})
    return memcached.children(inputs, "b", memcached.workload(inputs, "b", None))


def rabbits(spec, parameters=None):
    inputs = rabbit.inputs_of(an(Queue, spec), QueueParameters.model_validate(parameters or {}), {})
    content = rabbit.files(inputs, "a", "cluster.local")
    return rabbit.children(inputs, content, rabbit.workload(inputs, content, None).workload)


def queues(spec, parameters=None, restore=None):
    inputs = QueueInputs.of(
        an(Queue, spec), QueueParameters.model_validate(parameters or {}), {"nats": "registry.example/nats:2.12.1"}
    )
    words = queue_config.text(inputs, [js.NatsUser(js.ADMIN, "a")], "c", "s", inputs.spec.replicas)
    made = queue.children(inputs, words, queue_set(inputs, "revision"))
    made += backups(inputs, queue_backup)
    if restore is not None:
        template = queue_backup.restore_template(replace(inputs, restore=restore))
        made.append(backed.job(inputs.owner, template, "restore", queue_backup.RESTORE))
    return made


def databases(spec, parameters=None, restore=None):
    inputs = DatabaseInputs.of(
        an(Database, spec), DatabaseParameters.model_validate(parameters or {}), {}, restore=restore
    )
    return [*database_children(inputs, monitors=True), database_set(inputs)]


def poolers(spec, parameters=None):
    inputs = DatabaseInputs.of(an(Database, spec), DatabaseParameters.model_validate(parameters or {}), {}, ["mirror"])
    made = database_pooler.children(inputs, "a")
    return [*made, *(kept.workload for kept in database_pooler.workload(inputs, None, "f"))]


WEB = {
    "listeners": [{"name": "web", "protocol": "HTTP", "port": 80, "pool": "app"}],
    "pools": [{"name": "app", "targets": [{"name": "a", "address": "192.0.2.1", "port": 80}]}],
}
BACKED = {
    "schedule": "0 3 * * *",
    "destination": {"volume": {"claimName": "safe", "path": "orders"}},
    "retention": {"count": 7, "days": 30},
}
BUCKET = {
    "bucket": "ships",
    "prefix": "shop/",
    "endpoint": "https://s3.example.com",
    "region": "eu-north-1",
    "credentialsSecret": {"name": "store"},
}
FROM_CLAIM = {"claim": "safe", "path": "old", "name": "20261122T030000Z", "image": "registry.example/chandlery:1.0.0"}
FROM_BUCKET = {
    "bucket": "ships",
    "prefix": "shop",
    "credentials": "store",
    "object": "old",
    "uid": "6f0d",
    "image": "registry.example/chandlery:1.0.0",
}
WHOLE = {"tls": {}, "metrics": {"monitor": True}}
STORED = {"mode": "append-only", "storage": {"size": "2Gi", "className": "fast"}}
CASES = {
    "cache/standalone": lambda: caches({"memory": "256Mi"}),
    "cache/replicated": lambda: caches(
        {"mode": "replicated", "replicas": 2, "memory": "1Gi", "persistence": STORED, "placement": PLACED}
    ),
    "cache/exposed": lambda: caches(
        {
            "engine": "redis",
            "version": "8.2.1",
            "exposure": {"type": "LoadBalancer", "allowedCidrs": ["10.0.0.0/8"], "annotations": {"a/b": "c"}},
            "resources": {"limits": {"memory": "2Gi", "cpu": "2"}, "requests": {"cpu": "0.5"}},
        },
        {"images": {"redis": "registry.example/redis:8.2.1"}},
    ),
    "database/postgres": lambda: databases({}),
    "database/postgres-exposed": lambda: databases(
        {
            "version": "17",
            "storage": {"size": "20Gi", "className": "fast"},
            "placement": PLACED,
            "exposure": {"type": "LoadBalancer", "port": 15432, "allowedCidrs": ["10.0.0.0/8"]},
            "resources": {"limits": {"memory": "4Gi", "cpu": "2"}},
            "initialization": {"dataChecksums": False, "locale": "C.UTF-8"},
            "configuration": {"max_connections": "300", "work_mem": "16MB"},
        },
        {"pullSecrets": ["mirror"], "images": {"postgres": "registry.example/postgres:17.11"}},
    ),
    "cache/secured": lambda: caches(
        {
            "mode": "replicated",
            "replicas": 1,
            "tls": {"clientAuthentication": "required", "clientCaSecret": {"name": "clients"}},
            "metrics": {"monitor": True, "labels": {"release": "prometheus"}},
            "exposure": {"allowedCidrs": ["10.0.0.0/8"]},
        },
        {"images": {"redis-exporter": "registry.example/exporter:1.2.3"}, "commands": {"valkey-cli": ["/opt/cli"]}},
    ),
    "queue/secured": lambda: queues(
        {"storage": {"size": "4Gi"}, "replicas": 3, "tls": {}, "metrics": {}}, {"networkPolicy": True}
    ),
    "queue/rabbitmq": lambda: rabbits(
        {"engine": "rabbitmq", "storage": {"size": "4Gi"}, "replicas": 3, "tls": {"required": False}, "metrics": {}}
    ),
    "cache/memcached": lambda: caches_by_memcached(
        {"engine": "memcached", "mode": "sharded", "shards": 2, "memory": "64Mi", "tls": {}}
    ),
    "database/postgres-backup": lambda: databases(
        {
            "backup": {
                "schedule": "0 3 * * *",
                "destination": {"volume": {"claimName": "safe", "path": "orders"}},
                "retention": {"count": 7},
            }
        },
        restore=FROM_CLAIM,
    ),
    "database/postgres-secured": lambda: databases(
        {
            "tls": {"clientAuthentication": "required", "clientCaSecret": {"name": "clients"}},
            "metrics": {"monitor": True, "labels": {"release": "prometheus"}},
            "backup": {"schedule": "@daily", "destination": {"volume": {"claimName": "safe"}}, "method": "logical"},
        },
        {"images": {"postgres-exporter": "registry.example/exporter:1.2.3"}, "networkPolicy": True},
    ),
    "database/postgres-pooler": lambda: poolers(
        {
            "tls": {"required": False},
            "pooler": {"instances": 2, "mode": "session", "configuration": {"query_timeout": "30"}},
            "exposure": {"type": "NodePort", "nodePort": 30432, "allowedCidrs": ["10.0.0.0/8"]},
        },
        {"networkPolicy": True},
    ),
    "database/mariadb": lambda: databases({"engine": "mariadb"}),
    "database/mariadb-secured": lambda: databases(
        {
            "engine": "mariadb",
            "version": "11.8",
            "storage": {"size": "20Gi", "className": "fast"},
            "placement": PLACED,
            "tls": {"minimumVersion": "1.3"},
            "metrics": {},
            "exposure": {"type": "LoadBalancer", "port": 13306},
            "resources": {"limits": {"memory": "4Gi"}},
            "configuration": {"max_connections": "300"},
        },
        {"pullSecrets": ["mirror"], "commands": {"mysqld_exporter": ["/opt/exporter"]}},
    ),
    "database/mariadb-backup": lambda: databases(
        {
            "engine": "mariadb",
            "tls": {},
            "backup": {
                "schedule": "0 3 * * *",
                "destination": {"volume": {"claimName": "safe", "path": "orders"}},
                "retention": {"count": 7},
            },
        },
        restore=FROM_CLAIM,
    ),
    "database/mariadb-dump": lambda: databases(
        {
            "engine": "mariadb",
            "backup": {"schedule": "0 3 * * *", "destination": {"volume": {"claimName": "safe"}}, "method": "logical"},
        }
    ),
    "database/postgres-bucket": lambda: databases(
        {"backup": {**BACKED, "destination": {"s3": BUCKET}}, "tls": {}},
        {"images": {"chandlery": "registry.example/chandlery:2.0.0"}},
        restore=FROM_BUCKET,
    ),
    "cache/backup": lambda: caches(
        {"mode": "replicated", "replicas": 1, "persistence": STORED, "backup": BACKED, **WHOLE}, restore=FROM_CLAIM
    ),
    "cache/backup-of-shards": lambda: caches(
        {
            "mode": "sharded",
            "shards": 3,
            "backup": {**BACKED, "destination": {"s3": BUCKET}},
            "tls": {"required": False},
        },
        {"networkPolicy": True},
        restore=FROM_BUCKET,
    ),
    "queue/backup": lambda: queues(
        {"storage": {"size": "4Gi"}, "replicas": 3, "backup": BACKED, **WHOLE}, restore=FROM_CLAIM
    ),
    "queue/backup-in-a-bucket": lambda: queues(
        {"storage": {"size": "4Gi"}, "backup": {**BACKED, "destination": {"s3": BUCKET}}}, restore=FROM_BUCKET
    ),
    "queue/rabbitmq-secured": lambda: rabbits(
        {"engine": "rabbitmq", "storage": {"size": "4Gi"}, **WHOLE}, {"networkPolicy": True}
    ),
    "cache/memcached-secured": lambda: caches_by_memcached(
        {"engine": "memcached", "memory": "64Mi", "tls": {"minimumVersion": "1.3"}}
    ),
    "loadbalancer/plain": lambda: balancers({**WEB}),
    "loadbalancer/exposed": lambda: balancers({**WEB, "replicas": 3, "exposure": {"type": "LoadBalancer"}}),
    "queue/single": lambda: queues({"storage": {"size": "4Gi"}}),
    "queue/cluster": lambda: queues({"storage": {"size": "4Gi"}, "replicas": 3, "placement": PLACED}),
}


@pytest.mark.parametrize("case", CASES)
def test_manifests_are_as_they_were(case):
    text = yaml.safe_dump_all(CASES[case](), sort_keys=True)
    path = GOLDEN / f"{case}.yaml"
    if os.environ.get("CHANDLERY_WRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("case", CASES)
def test_manifests_are_made_of_what_the_api_knows(case):
    import kubernetes_validate

    for manifest in CASES[case]():
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, "1.37", strict=True)


VOLUMES = {"secret", "configMap", "emptyDir", "persistentVolumeClaim"}


@pytest.mark.parametrize("case", [case for case in CASES if "backup" in case or "dump" in case])
def test_pods_of_backups_keep_to_the_restricted_standard_and_are_behind_no_service(case):
    made = CASES[case]()
    [cron] = [m for m in made if m["kind"] == "CronJob"]
    jobs = [cron["spec"]["jobTemplate"]["spec"], *(m["spec"] for m in made if m["kind"] == "Job")]
    for template in (job["template"] for job in jobs):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert all(set(volume) - {"name"} <= VOLUMES for volume in pod["volumes"])
        containers = [*pod.get("initContainers", ()), *pod["containers"]]
        mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        for container in containers:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert container["command"]
            assert container["workingDir"] == "/"
            assert re.search(r":v?[0-9]+(\.[0-9]+)+(-[a-z0-9.]+)?$", container["image"])
            assert not [e for e in container.get("env", ()) if "secretKeyRef" in str(e)]
            keys = any(mount["name"] == "keys" for mount in container["volumeMounts"])
            assert not keys or "chandlery_kinds." in str(container["command"])  # nobody else needs them
        for manifest in (m for m in made if m["kind"] == "Service"):
            assert not manifest["spec"]["selector"].items() <= template["metadata"]["labels"].items()


@pytest.mark.parametrize("case", CASES)
def test_pods_keep_to_the_restricted_standard_and_say_everything(case):
    workloads = [m for m in CASES[case]() if m["kind"] in ("StatefulSet", "Deployment")]
    assert len(workloads) == 1
    pod = workloads[0]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {s["name"] for s in security.get("sysctls", ())} <= {"net.ipv4.ip_unprivileged_port_start"}
    assert not {key for key in pod if key.startswith("host")}
    assert all(set(volume) - {"name"} <= VOLUMES for volume in pod["volumes"])
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["command"]  # never an image's own entrypoint
        assert container["workingDir"] == "/"  # nor its folder
        assert re.search(r":v?[0-9]+(\.[0-9]+)+(-[a-z0-9.]+)?$", container["image"])
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        # a sidecar of metrics doesn't take the engine out of its Service
        probes = {"livenessProbe"} if container["name"] == "metrics" else {"livenessProbe", "readinessProbe"}
        assert container in pod.get("initContainers", ()) or probes == container.keys() & {
            "livenessProbe",
            "readinessProbe",
        }
        assert not [e for e in container.get("env", ()) if "secretKeyRef" in str(e)]


@pytest.mark.parametrize("case", CASES)
def test_children_are_owned_labelled_and_selected(case):
    made = CASES[case]()
    for manifest in made:
        [owner] = manifest["metadata"]["ownerReferences"]
        assert owner["controller"]
        assert manifest["metadata"]["labels"]["chandlery.dev/owner-uid"] == owner["uid"]
    [workload] = [m for m in made if m["kind"] in ("StatefulSet", "Deployment")]
    labels = workload["spec"]["template"]["metadata"]["labels"].items()
    for manifest in made:
        if manifest["kind"] == "Service":
            selector = {k: v for k, v in manifest["spec"]["selector"].items() if k != "chandlery.dev/role"}
            assert selector.items() <= labels


def test_a_volume_claim_keeps_the_size_that_it_was_made_with():
    spec = {"persistence": STORED}
    live = caches(spec)[-1]
    bigger = {"persistence": {**STORED, "storage": {"size": "8Gi", "className": "fast"}}}
    inputs = CacheInputs.of(an(Cache, bigger), CacheParameters(), {})
    again = cache.workload(inputs, live).workload
    assert again["spec"]["volumeClaimTemplates"] == live["spec"]["volumeClaimTemplates"]


def _template(made):
    [workload] = [m for m in made if m["kind"] in ("StatefulSet", "Deployment")]
    return workload, workload["spec"]["template"]["spec"]


@pytest.mark.parametrize("case", CASES)
def test_pods_have_all_that_they_refer_to(case):
    """What an API server takes and a kubelet stumbles over."""
    workload, pod = _template(CASES[case]())
    claims = workload["spec"].get("volumeClaimTemplates", ())
    volumes = [v["name"] for v in pod["volumes"]] + [claim["metadata"]["name"] for claim in claims]
    assert len(volumes) == len(set(volumes))
    everything = [*pod.get("initContainers", ()), *pod["containers"]]
    mounted = set()
    for container in everything:
        mounts = container.get("volumeMounts", ())
        mounted |= {mount["name"] for mount in mounts}
        assert len({mount["mountPath"] for mount in mounts}) == len(mounts)
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        assert len(set(ports.values())) == len(ports)
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container.get(kind, {})
            asked = (probe.get("tcpSocket") or probe.get("httpGet") or {}).get("port")
            assert asked is None or asked in ports
    assert mounted == set(volumes)
    names = [port["name"] for container in everything for port in container.get("ports", ())]
    assert len(names) == len(set(names))
    assert all(len(name) <= 15 for name in names)


@pytest.mark.parametrize("case", CASES)
def test_only_images_that_have_a_shell_are_asked_for_one(case):
    """docs/kubernetes.md says which: many images of others have none."""
    _, pod = _template(CASES[case]())
    shells = set()
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        hook = container.get("lifecycle", {}).get("preStop", {})
        probes = [container.get(kind, {}) for kind in ("startupProbe", "livenessProbe", "readinessProbe")]
        words = [container["command"], *(p["exec"]["command"] for p in (hook, *probes) if "exec" in p)]
        shells |= {container["name"] for command in words if command[0] == "sh"}
    allowed = {"database": {"initialise", "database"}, "loadbalancer": {"haproxy"}}.get(case.partition("/")[0], set())
    assert shells <= (allowed or ({"cookie"} if "rabbitmq" in case else set()))


def test_a_class_says_where_the_program_of_a_load_balancer_is():
    commands = {"commands": {"haproxy": ["/opt/haproxy/sbin/haproxy"]}}
    inputs = BalancerInputs.of(an(LoadBalancer, WEB), LoadBalancerParameters.model_validate(commands), {})
    [container] = deployment(inputs, "mark")["spec"]["template"]["spec"]["containers"]
    assert container["command"][:2] == ["/opt/haproxy/sbin/haproxy", "-W"]
    assert inputs.asked["commands"] == commands["commands"]
