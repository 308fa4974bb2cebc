"""Events, informers, election, admission, certificates, credentials: each by itself."""

from __future__ import annotations

import asyncio
import base64
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from chandlery.driver.parameters import Parameters, names_of, parameters_of
from chandlery.foundation.clock import FakeClock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import Fenced, InvalidConfiguration, Unavailable
from chandlery.providers.kubernetes import KubernetesProviderFactory
from chandlery.providers.kubernetes.parameters import IMAGES, WorkloadParameters
from chandlery.providers.local import LocalProviderFactory
from chandlery.reconcile.admission import configuration, review
from chandlery.reconcile.api import EVENTS, LEASES, SECRETS, Expired
from chandlery.reconcile.certificates import self_signed, shared_certificate
from chandlery.reconcile.client import proxy_for
from chandlery.reconcile.credentials import FileToken, from_kubeconfig
from chandlery.reconcile.events import Recorder
from chandlery.reconcile.informer import Informer
from chandlery.reconcile.kopf_binding import endless_backoff, settings
from chandlery.reconcile.leader import Elector
from chandlery.reconcile.locks import LeaseLocks
from chandlery.reconcile.memory import MemoryApi
from chandlery_kinds import KINDS

OBJ = {
    "apiVersion": "data.chandlery.dev/v1alpha1",
    "kind": "Cache",
    "metadata": {"name": "one", "namespace": "shop", "uid": "u1", "resourceVersion": "5"},
}
BY_NAME = {kind.name: kind for kind in KINDS}


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def api(clock):
    return MemoryApi(clock)


# Events


async def test_the_same_event_is_counted_not_repeated(api, clock):
    recorder = Recorder(api, clock)
    for _ in range(3):
        recorder.record(OBJ, "Warning", "Failed", "It failed.")
        await recorder.flush()
        await clock.advance(10)
    [event] = api.objects("Event")
    assert (event["count"], event["reason"], event["type"]) == (3, "Failed", "Warning")
    assert event["firstTimestamp"] < event["lastTimestamp"]
    assert event["involvedObject"]["uid"] == "u1"


async def test_after_a_while_it_is_a_new_event(api, clock):
    recorder = Recorder(api, clock)
    recorder.record(OBJ, "Normal", "A", "a")
    await clock.advance(700)
    recorder.record(OBJ, "Normal", "A", "a")
    await recorder.flush()
    assert len(api.objects("Event")) == 2


async def test_an_object_may_only_say_so_much(api, clock):
    recorder = Recorder(api, clock)
    for number in range(100):
        recorder.record(OBJ, "Normal", "A", f"message {number}")
    await recorder.flush()
    assert len(api.objects("Event")) == 25
    assert recorder.dropped == 75
    await clock.advance(600)
    recorder.record(OBJ, "Normal", "A", "later")
    await recorder.flush()
    assert len(api.objects("Event")) == 26


async def test_an_event_that_expired_is_made_again(api, clock):
    recorder = Recorder(api, clock)
    recorder.record(OBJ, "Normal", "A", "a")
    await recorder.flush()
    await api.delete(EVENTS, "shop", api.objects("Event")[0]["metadata"]["name"])
    recorder.record(OBJ, "Normal", "A", "a")
    await recorder.flush()
    assert api.objects("Event")[0]["count"] == 2


async def test_events_never_fail_anything(api, clock):
    async def broken(*_):
        raise Unavailable("away")

    api.before = broken
    recorder = Recorder(api, clock)
    recorder.record(OBJ, "Normal", "A", "x" * 5000)
    await recorder.flush()
    assert recorder.dropped == 1


# Informers


def follow(api, clock, seen):
    return Informer(
        api,
        SECRETS,
        lambda event, obj: seen.append((event, obj["metadata"]["name"])),
        clock=clock,
        logger=Context().logger,
        watch_seconds=60,
        jitter=lambda: 1.0,
    )


async def test_deletions_during_a_gap_are_told(api, clock):
    seen = []
    for name in ("a", "b"):
        await api.create(SECRETS, {"metadata": {"name": name, "namespace": "shop"}})
    informer = follow(api, clock, seen)
    task = asyncio.create_task(informer.run())
    await clock.settle()
    assert informer.known == 2

    async def away(verb, *_):
        raise Unavailable("away")

    api.before = away
    await clock.advance(70)  # the watch ends, and no new one can be opened
    api.before = MemoryApi().before
    await api.delete(SECRETS, "shop", "a")
    await api.create(SECRETS, {"metadata": {"name": "c", "namespace": "shop"}})
    api.compact()
    await clock.advance(60)
    assert ("DELETED", "a") in seen
    assert ("ADDED", "c") in seen
    assert informer.known == 2
    assert informer.relists >= 2
    task.cancel()


async def test_an_object_made_anew_under_its_name_is_another_one(api, clock):
    seen = []
    await api.create(SECRETS, {"metadata": {"name": "a", "namespace": "shop"}})
    informer = follow(api, clock, seen)
    task = asyncio.create_task(informer.run())
    await clock.settle()
    task.cancel()
    await clock.settle()
    await api.delete(SECRETS, "shop", "a")
    await api.create(SECRETS, {"metadata": {"name": "a", "namespace": "shop"}})
    api.compact()
    task = asyncio.create_task(informer.run())
    await clock.advance(1)
    assert seen == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")]
    task.cancel()


async def test_a_watch_that_never_ends_is_ended(api, clock):
    async def silent(*_, **__):
        await clock.sleep(100_000)
        yield

    informer = follow(api, clock, [])
    api.watch = silent
    task = asyncio.create_task(informer.run())
    await clock.settle()
    heard = informer.last_event
    await clock.advance(95)
    assert informer.last_event == heard, "silence is not news"
    await clock.advance(400)
    assert informer.relists > 1, "and in the end everything is asked again"
    assert not task.done()
    task.cancel()


@pytest.mark.parametrize("expires", [True, False])
async def test_a_server_that_ends_each_watch_at_once_is_not_asked_in_a_tight_loop(api, clock, expires):
    asked = []

    async def useless(*_, **__):
        asked.append(clock.monotonic())
        if expires:
            raise Expired("too old")
        for nothing in ():
            yield nothing

    informer = follow(api, clock, [])
    api.watch = useless
    task = asyncio.create_task(informer.run())
    await clock.advance(60)
    assert asked[10] == asked[0], "now and then it may happen"
    assert 16 < len(asked) < 32
    task.cancel()


# Election


async def elect(api, clock, name, ttl=15.0):
    elector = Elector(LeaseLocks(api, "ops", clock, lambda: 0.5), "chandlery", name, ttl=ttl, clock=clock)
    task = asyncio.create_task(elector.acquire())
    await clock.settle()
    return elector, task


async def test_one_leads_and_the_other_follows_after_a_crash(api, clock):
    first, won = await elect(api, clock, "first")
    assert won.done()
    token = first.fence()
    second, waiting = await elect(api, clock, "second")
    await clock.advance(9)
    assert not waiting.done()
    # the first one is gone without a word: it stops believing before anybody else can start to
    await clock.advance(2)
    with pytest.raises(Fenced):
        first.fence()
    assert not waiting.done()
    await clock.advance_until(waiting.done, limit=20)
    assert second.fence() > token


async def test_the_lead_is_kept_by_renewing_and_lost_when_that_fails(api, clock):
    elector, _ = await elect(api, clock, "first")
    kept = asyncio.create_task(elector.keep())
    await clock.advance(300)
    assert elector.leading

    async def away(*_):
        raise Unavailable("away")

    api.before = away
    await clock.advance(6)
    assert elector.leading, "one failed renewal is not the end"
    await clock.advance(10)
    assert not elector.leading
    assert kept.done()


async def test_an_orderly_end_hands_over_at_once(api, clock):
    first, _ = await elect(api, clock, "first", ttl=600)
    await first.release()
    _, won = await elect(api, clock, "second", ttl=600)
    assert won.done()
    lease = await api.get(LEASES, "ops", "chandlery")
    assert lease["spec"]["holderIdentity"] == "second"
    assert lease["spec"]["leaseTransitions"] == 2


async def test_times_of_other_machines_are_not_believed(api, clock):
    spec = {
        "holderIdentity": "other",
        "leaseDurationSeconds": 15,
        "renewTime": "1999-01-01T00:00:00.000000Z",
        "leaseTransitions": 7,
    }
    await api.create(LEASES, {"metadata": {"name": "chandlery", "namespace": "ops"}, "spec": spec})
    elector, won = await elect(api, clock, "first")
    await clock.advance(14)
    assert not won.done(), "a date of long ago proves nothing but a clock that is wrong"
    await clock.advance(5)
    assert won.done()
    assert elector.fence() == 8


# Admission


def ask(operation, new=None, old=None, kind="Cache"):
    request = {
        "uid": "r1",
        "kind": {"group": BY_NAME[kind].names.group if kind in BY_NAME else "", "kind": kind},
        "operation": operation,
        "name": "one",
        "object": new,
        "oldObject": old,
    }
    return review({"request": request}, BY_NAME)["response"]


def a_cache(**spec):
    return {**OBJ, "spec": spec}


def test_a_protected_object_is_not_deleted():
    answer = ask("DELETE", old=a_cache(deletionProtection=True))
    assert not answer["allowed"]
    assert answer["status"]["code"] == 403
    assert "Set spec.deletionProtection to false first" in answer["status"]["message"]
    assert ask("DELETE", old=a_cache())["allowed"]
    assert ask("DELETE", old=a_cache(), kind="Secret")["allowed"]


def test_a_spec_that_the_model_refuses_is_refused():
    answer = ask("CREATE", new=a_cache(memory="lots"))
    assert not answer["allowed"]
    assert answer["uid"] == "r1"
    assert answer["status"]["details"]["causes"][0]["field"] == "spec.memory"
    assert ask("CREATE", new=a_cache(memory="64Mi"))["allowed"]


def test_what_is_stored_already_stays_editable():
    bad = a_cache(memory="lots")
    assert ask("UPDATE", new=bad, old=bad)["allowed"]
    deleting = {**bad, "metadata": {**bad["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert ask("UPDATE", new=deleting, old=a_cache())["allowed"]


def of_platform(kind, spec, before=None, name="fast"):
    """What admission says to a class or a configuration."""
    request = {
        "uid": "r1",
        "kind": {"group": "platform.chandlery.dev", "version": "v1alpha1", "kind": kind},
        "operation": "CREATE" if before is None else "UPDATE",
        "name": name,
        "object": {"metadata": {"name": name}, "spec": spec},
        "oldObject": None if before is None else {"metadata": {"name": name}, "spec": before},
    }
    factories = {"kubernetes": KubernetesProviderFactory(), "local": LocalProviderFactory(Path("/nowhere"))}
    return review({"request": request}, BY_NAME, factories)["response"]


def test_parameters_that_nobody_reads_are_refused():
    near = {"kind": "Cache", "driver": "kubernetes", "parameters": {"imagess": {"valkey": "a/b:1"}}}
    answer = of_platform("ResourceClass", near)
    assert not answer["allowed"]
    assert answer["status"]["code"] == 422
    cause = answer["status"]["details"]["causes"][0]
    assert cause["field"] == "spec.parameters.imagess"
    assert cause["message"].endswith("has no such parameter: did you mean images?")
    assert "the reference page lists what there is" in answer["status"]["message"]
    assert not of_platform("ProviderConfig", {"provider": "local", "parameters": {"dataDir": "here"}})["allowed"]
    assert of_platform("ProviderConfig", {"provider": "local", "parameters": {"dataDir": "/here"}})["allowed"]


def test_who_is_unknown_takes_any_parameters_and_its_status_tells():
    odd = {"parameters": {"a": 1}}
    assert of_platform("ResourceClass", {"kind": "Cache", "driver": "steam", **odd})["allowed"]
    assert of_platform("ResourceClass", {"kind": "Spaceship", "driver": "local", **odd})["allowed"]
    assert of_platform("ProviderConfig", {"provider": "moon", **odd})["allowed"]


def test_a_class_with_parameters_of_old_stays_editable():
    old = {"kind": "Cache", "driver": "memory", "parameters": {"a": 1}}
    assert of_platform("ResourceClass", {**old, "default": True}, before=old)["allowed"]
    assert not of_platform("ResourceClass", {**old, "parameters": {"b": 1}}, before=old)["allowed"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_driver_declares_what_it_takes(kind):
    for name in kind.drivers:
        model = parameters_of(kind.load_driver(name))
        assert issubclass(model, Parameters)
        for known in names_of(model):
            assert model.model_json_schema()["properties"][known].get("description"), f"{kind.name} {name} {known}"


def test_images_of_the_provider_are_those_of_its_drivers():
    """A ProviderConfig may name an image for whatever a driver of it takes one for, and for nothing else."""
    taken: set[str] = set()
    for kind in KINDS:
        model = parameters_of(kind.load_driver("kubernetes"))
        if issubclass(model, WorkloadParameters):
            taken |= set(model.model_json_schema()["properties"]["images"]["propertyNames"]["enum"])
    assert set(IMAGES.names) == taken


def test_the_configuration_names_every_kind():
    made = configuration(BY_NAME, {"url": "https://x/"})
    objects, settings = ({r for rule in hook["rules"] for r in rule["resources"]} for hook in made["webhooks"])
    assert objects == {kind.names.plural for kind in KINDS}
    assert settings == {"resourceclasses", "providerconfigs"}
    assert {hook["failurePolicy"] for hook in made["webhooks"]} == {"Ignore"}


# Certificates


async def test_replicas_share_one_certificate_and_renew_it_in_time(api, clock):
    first = await shared_certificate(api, "ops", "hook", ["a.ops.svc"], clock.now())
    assert await shared_certificate(api, "ops", "hook", ["a.ops.svc"], clock.now() + timedelta(days=300)) == first
    renewed = await shared_certificate(api, "ops", "hook", ["a.ops.svc"], clock.now() + timedelta(days=340))
    assert renewed != first
    other = await shared_certificate(api, "ops", "hook", ["b.ops.svc"], clock.now() + timedelta(days=340))
    assert other != renewed
    assert "Certificate(...)" in repr(first), "keys are not for logs"


def test_the_certificate_is_trusted_by_its_own_authority_only(tmp_path):
    from datetime import UTC, datetime

    made = self_signed(["127.0.0.1"], datetime.now(UTC))
    (tmp_path / "c").write_bytes(made.chain + made.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "c")
    ssl.create_default_context(cadata=made.authority.decode())


# Credentials


def kubeconfig(tmp_path, user, cluster=None):
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "ops"}}],
        "clusters": [{"name": "c", "cluster": cluster or {"server": "http://127.0.0.1:1/"}}],
        "users": [{"name": "u", "user": user}],
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    return path


async def test_tokens_and_files(tmp_path, clock):
    found = from_kubeconfig(kubeconfig(tmp_path, {"token": "abc"}))
    assert (found.server, found.namespace, await found.token()) == ("http://127.0.0.1:1", "ops", "abc")
    assert "abc" not in repr(found)
    (tmp_path / "t").write_text("one\n")
    token = FileToken(tmp_path / "t", clock)
    assert await token() == "one"
    (tmp_path / "t").write_text("two\n")
    assert await token() == "one"
    await clock.advance(61)
    assert await token() == "two"
    (tmp_path / "t").unlink()
    await clock.advance(61)
    assert await token() == "two", "a file that is away for a moment does not log us out"


async def test_client_certificates_leave_no_key_behind(tmp_path, monkeypatch):
    from datetime import UTC, datetime

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = self_signed(["me"], datetime.now(UTC))
    user = {
        "client-certificate-data": base64.b64encode(made.chain).decode(),
        "client-key-data": base64.b64encode(made.key).decode(),
    }
    authority = base64.b64encode(made.authority).decode()
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority-data": authority}
    before = set(tmp_path.iterdir()) | {tmp_path / "config"}
    found = from_kubeconfig(kubeconfig(tmp_path, user, cluster))
    assert found.tls is not None
    assert set(tmp_path.iterdir()) == before


def test_a_kubeconfig_that_leads_nowhere_says_what_is_missing(tmp_path):
    path = kubeconfig(tmp_path, {"token": "x"})
    with pytest.raises(InvalidConfiguration, match="there"):
        from_kubeconfig(path, context="there")
    with pytest.raises(InvalidConfiguration, match="can't be read"):
        from_kubeconfig(tmp_path / "nope")
    with pytest.raises(InvalidConfiguration, match="passwords"):
        from_kubeconfig(kubeconfig(tmp_path, {"username": "a", "password": "b"}))


async def test_exec_plugins_give_tokens(tmp_path, clock):
    plugin = tmp_path / "plugin"
    credential = (
        '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"from-exec"}}'
    )
    plugin.write_text(f"#!/bin/sh\necho '{credential}'\n")
    plugin.chmod(0o755)
    user = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    }
    found = from_kubeconfig(kubeconfig(tmp_path, user), clock=clock)
    assert await found.token() == "from-exec"


def test_proxies(monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert proxy_for("https://api.example.org:6443") == "http://proxy:3128"
    assert proxy_for("https://127.0.0.1:6443") is None
    monkeypatch.setenv("no_proxy", "example.org")
    assert proxy_for("https://api.example.org:6443") is None


# kopf


def test_kopf_stores_nothing_and_never_gives_up():
    made = settings()
    assert made.persistence.diffbase_storage.fetch(body={}) is None
    assert made.persistence.progress_storage.fetch(key="x", body={}) is None
    assert made.peering.standalone
    assert not made.posting.enabled
    assert "kopf.zalando.org" not in made.persistence.finalizer
    delays = [delay for delay, _ in zip(endless_backoff(), range(100), strict=False)]
    assert len(delays) == 100
    assert max(delays) == 15.0
    assert list(zip(iter(made.networking.error_backoffs), range(3), strict=False)) != []


# Sessions


async def test_sessions_are_shared_renewed_and_closed(api, clock):
    from chandlery.driver.provider import NO_PROVIDER
    from chandlery.providers.memory import MemoryProvider
    from chandlery.reconcile.classes import Catalogue
    from chandlery.reconcile.problems import ProviderNotFound
    from chandlery.reconcile.reader import ApiReader
    from chandlery.reconcile.sessions import Sessions
    from chandlery.reconcile.store import Store

    catalogue = Catalogue(lambda _: None)
    provider = MemoryProvider()
    reader = ApiReader(api, Store(), {}, lambda _: False)
    sessions = Sessions({"memory": provider}, catalogue, reader, clock, lambda uid: None)
    assert await sessions.get(NO_PROVIDER, "") is None
    one, two = await asyncio.gather(sessions.get("memory", ""), sessions.get("memory", ""))
    assert one is two
    assert provider.opened == 1
    with pytest.raises(ProviderNotFound, match="no provider acme"):
        await sessions.get("acme", "")
    with pytest.raises(ProviderNotFound, match="no ProviderConfig"):
        await sessions.get("memory", "far")
    config = {"metadata": {"name": "far", "uid": "c", "generation": 1}, "spec": {"provider": "memory"}}
    config["spec"]["credentialsSecretRef"] = {"namespace": "ops", "name": "keys"}
    catalogue.configs["far"] = config
    with pytest.raises(ProviderNotFound, match="names a Secret that does not exist"):
        await sessions.get("memory", "far")
    await api.create(SECRETS, {"metadata": {"name": "keys", "namespace": "ops"}, "data": {"a": "eA=="}})
    far = await sessions.get("memory", "far")
    assert await sessions.get("memory", "far") is far
    sessions.forget("far")  # its credentials were refused: read them again
    assert await sessions.get("memory", "far") is not far
    catalogue.configs["far"] = {**config, "metadata": {**config["metadata"], "generation": 2}}
    await sessions.get("memory", "far")
    assert provider.opened == 4
    await sessions.close()
    assert provider.world.listeners == set()
