"""A queue handed over to RabbitMQ's own operators: the objects, and what is made of what they say."""

from chandlery.providers.kubernetes.ownership import Owner
from chandlery_kinds.queue import rabbitmq as rabbit
from chandlery_kinds.queue.drivers.kubernetes_rabbit_delegate import refused
from chandlery_kinds.queue.kubernetes.parameters import QueueParameters
from chandlery_kinds.queue.kubernetes.rabbit import inputs_of
from chandlery_kinds.queue.kubernetes.rabbit_delegate import cluster, monitor, problems, topology
from chandlery_kinds.queue.model import Queue

META = {"name": "jobs", "namespace": "shop", "uid": "u-1"}


def queue(**spec):
    return Queue.model_validate(
        {
            "apiVersion": "messaging.chandlery.dev/v1alpha1",
            "kind": "Queue",
            "metadata": META,
            "spec": {"engine": "rabbitmq", **spec},
            "status": {},
        }
    )


def made(**spec):
    return cluster(inputs_of(queue(**spec), QueueParameters(), {}), None)["spec"]


def test_a_cluster_says_what_the_spec_says_and_leaves_to_the_operator_what_is_its_own():
    spec = made(
        replicas=3, storage={"size": "5Gi", "className": "fast"}, configuration={"heartbeat": "30"}, version="4.1"
    )
    assert spec["replicas"] == 3
    assert spec["persistence"] == {"storage": "5Gi", "storageClassName": "fast"}
    assert spec["image"].endswith("rabbitmq:4.1")
    lines = spec["rabbitmq"]["additionalConfig"].splitlines()
    assert "heartbeat = 30" in lines
    assert not [line for line in lines if line.startswith(("listeners", "default_", "cluster_", "management.tcp"))]
    assert "image" not in made()  # the operator knows which one it was made for


def test_a_volume_is_never_made_smaller():
    live = {"spec": {"persistence": {"storage": "10Gi"}}}
    assert (
        cluster(inputs_of(queue(storage={"size": "5Gi"}), QueueParameters(), {}), live)["spec"]["persistence"][
            "storage"
        ]
        == "10Gi"
    )


def content(password="one"):
    obj = queue(deadLetter={}, maxDeliveries=3, users=[{"name": "till", "rights": ["publish"], "subjects": ["a.*"]}])
    users = [rabbit.RabbitUser("app", password), rabbit.RabbitUser("till", "x", obj.spec.users[0].rights, ("a.*",))]
    return topology(Owner.of(obj, "rabbitmq"), rabbit.wanted("jobs", obj.spec, "queue", users))


def by_kind(objects, kind):
    return [one["spec"] for one in objects if one["kind"] == kind]


def test_what_is_inside_becomes_objects_of_the_topology_operator():
    found = content()
    assert {spec["name"] for spec in by_kind(found, "Queue")} == {"jobs", "jobs-dead"}
    assert all(spec["rabbitmqClusterReference"] == {"name": "jobs-queue"} for spec in by_kind(found, "Queue"))
    assert {spec["type"] for spec in by_kind(found, "Queue")} == {"quorum"}
    [exchange] = by_kind(found, "Exchange")
    assert (exchange["name"], exchange["type"]) == ("jobs", "topic")
    assert {spec["user"] for spec in by_kind(found, "Permission")} == {"app", "till"}
    assert [spec["permissions"]["exchange"] for spec in by_kind(found, "TopicPermission")] == ["jobs"]
    policy = next(spec for spec in by_kind(found, "Policy") if spec["name"] == "jobs")
    assert policy["definition"]["delivery-limit"] == 2
    names = [one["metadata"]["name"] for one in found]
    assert len(set(names)) == len(names)
    secrets = {one["metadata"]["name"] for one in found if one["kind"] == "Secret"}
    assert {spec["importCredentialsSecret"]["name"] for spec in by_kind(found, "User")} == secrets


def test_a_new_password_is_another_secret_of_the_same_user():
    def names(objects, kind):
        return {one["metadata"]["name"] for one in objects if one["kind"] == kind}

    one, other = content("one"), content("two")
    assert names(one, "User") == names(other, "User")
    assert len(names(one, "Secret") & names(other, "Secret")) == 1


def condition(kind, status="True", **more):
    return {"type": kind, "status": status, **more}


GOOD = [condition(kind) for kind in ("ReconcileSuccess", "AllReplicasReady", "ClusterAvailable")]


def told(conditions, generation=1):
    return {"metadata": {"generation": 1}, "status": {"conditions": conditions, "observedGeneration": generation}}


def test_what_the_operators_say_is_told_back():
    assert list(problems(told(GOOD), [])) == []
    failed = condition("ReconcileSuccess", "False", reason="Error", message="Cluster Scale down not supported")
    assert next(problems(told([failed, *GOOD[1:]]), [])) == (
        "Error",
        "ReconcileSuccess: Cluster Scale down not supported",
    )
    assert next(problems(told(GOOD, generation=0), []))[0] == "Starting"
    assert next(problems(told([]), []))[1].startswith("ReconcileSuccess:")
    user = {"kind": "User", "metadata": {"name": "jobs-queue-1"}, "spec": {}}
    bad = {**user, "status": {"conditions": [condition("Ready", "False", reason="FailedCreateOrUpdate", message="no")]}}
    assert list(problems(told(GOOD), [bad])) == [("FailedCreateOrUpdate", "User jobs-queue-1: no")]
    assert list(problems(told(GOOD), [{**user, "status": {"conditions": [condition("Ready")]}}])) == []


def test_what_is_not_handed_over_is_refused_by_name():
    def fields(obj, mode="cluster"):
        return [one.field for one in refused(obj, mode)]

    assert fields(queue()) == []
    assert fields(queue(tls={}, metrics={}, exposure={"port": 5671})) == []
    assert fields(queue(tls={}), "topology") == ["spec.tls"]
    asks = {"clientAuthentication": "required", "clientCaSecret": {"name": "clients"}}
    assert fields(queue(tls=asks)) == ["spec.tls.clientAuthentication"]
    assert fields(queue(metrics={"port": 9000}, deletionPolicy="Retain", exposure={"port": 5673})) == [
        "spec.metrics.port",
        "spec.exposure.port",
        "spec.deletionPolicy",
    ]


def test_the_certificate_is_ours_and_plain_connections_end_with_it():
    assert made(tls={})["tls"] == {"secretName": "jobs-queue-tls", "disableNonTLSListeners": True}
    assert made(tls={"required": False})["tls"]["disableNonTLSListeners"] is False
    assert "tls" not in made(tls={"enabled": False})
    lines = made(tls={"minimumVersion": "1.3"})["rabbitmq"]["additionalConfig"].splitlines()
    assert [line for line in lines if line.startswith("ssl_options")] == ["ssl_options.versions.1 = tlsv1.3"]


def test_prometheus_is_led_to_what_the_operator_serves():
    def watched(monitors=True, **spec):
        obj = queue(**spec)
        return monitor(inputs_of(obj, QueueParameters(), {}), obj.spec.metrics, monitors=monitors)

    assert watched() == watched(metrics={}) == watched(metrics={"monitor": True}, monitors=False) == []
    [plain] = watched(metrics={"monitor": True, "labels": {"release": "p"}})
    assert plain["metadata"]["labels"]["release"] == "p"
    assert plain["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == "jobs-queue"
    assert [end["port"] for end in plain["spec"]["endpoints"]] == ["prometheus"]
    [secure] = watched(metrics={"monitor": True}, tls={})
    [end] = secure["spec"]["endpoints"]
    assert (end["port"], end["scheme"]) == ("prometheus-tls", "https")
    assert end["tlsConfig"]["ca"]["secret"]["name"] == "jobs-queue-tls"
