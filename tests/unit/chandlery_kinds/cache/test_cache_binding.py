"""What applications connect with, and what the engines are told: pure."""

import pytest

from chandlery_kinds.cache import acl
from chandlery_kinds.cache.binding import Address, entries, memcached_entries
from chandlery_kinds.cache.memcached import arguments, auth_file, megabytes
from chandlery_kinds.cache.model import CacheSpec
from chandlery_kinds.cache.valkey import NodeConfig, reads, render


def test_the_default_user_is_named_in_a_uri_too():
    found = entries(Address("127.0.0.1", 20000), "default", "pw")
    assert found["uri"] == "redis://default:pw@127.0.0.1:20000/0"
    assert entries(Address("127.0.0.1", 20000), "app", "pw")["uri"] == "redis://app:pw@127.0.0.1:20000/0"


def test_with_tls_the_plain_port_is_named_only_where_it_is_open():
    tls = {"tls": "true", "ca.crt": "PEM"}
    closed = entries(Address("127.0.0.1", 20000, tls), "app", "pw")
    assert (closed["uri"], closed["ca.crt"]) == ("rediss://app:pw@127.0.0.1:20000/0", "PEM")
    assert not [key for key in closed if key.startswith("plain")]
    opened = entries(Address("127.0.0.1", 20000, tls, 20001), "app", "pw")
    assert (opened["plain-port"], opened["plain-uri"]) == ("20001", "redis://app:pw@127.0.0.1:20001/0")


def test_a_cluster_has_nodes_and_no_database():
    found = entries(Address("127.0.0.1", 1, nodes=("127.0.0.1:1", "127.0.0.1:2")), "app", "pw")
    assert (found["cluster"], found["nodes"]) == ("true", "127.0.0.1:1,127.0.0.1:2")
    assert found["uri"] == "redis://app:pw@127.0.0.1:1"


def test_memcacheds_binding_and_command_line():
    found = memcached_entries(Address("127.0.0.1", 1, nodes=("127.0.0.1:1",)), "u", "p")
    assert found["uri"] == "memcached://u:p@127.0.0.1:1"
    spec = CacheSpec.model_validate(
        {"engine": "memcached", "memory": "100Mi", "evictionPolicy": "noeviction", "configuration": {"threads": "2"}}
    )
    argv = arguments(spec, 20000, "/x/users")
    assert argv[argv.index("--memory-limit") + 1] == "100"
    assert {"--disable-evictions", "--threads=2"} <= set(argv)
    assert auth_file("u", ["new", "old"]) == "u:new\nu:old\n"
    assert megabytes(CacheSpec.model_validate({"engine": "memcached", "memory": "1"})) == 1


@pytest.mark.parametrize(
    ("line", "written_by", "can"),
    [
        ("9.1", "9.0.0", True),
        ("9.0", "9.1.2", True),
        ("9.0", "9.2.0", False),
        ("9.1", "10.0.0", False),
        ("9.1", "9.1.2", True),
    ],
)
def test_an_older_engine_reads_newer_data_only_where_it_was_tried(line, written_by, can):
    assert reads("valkey", line, written_by) is can


def test_the_order_of_an_acls_words_does_not_count():
    one = {"app": "user app on #hash ~* -@all +get +set"}
    other = {"app": "user app on #hash ~* -@all +set +get"}
    assert acl.fingerprint(one) == acl.fingerprint(other)
    assert acl.fingerprint(one) != acl.fingerprint({"app": "user app on #hash ~* -@all +set"})


def test_users_that_the_engine_prints_in_our_own_words_need_no_note():
    users = [acl.admin("secret"), acl.AclUser("till", ("ab",), ("%R~a:*",), (), ("+GET", "-set"))]
    printed = {
        "chandlery": f"user chandlery on #{acl.digest('secret')} ~* &* +@all",
        "till": "user till on #ab %R~a:* resetchannels -@all +get -set",
    }
    assert acl.as_written(users, printed)
    assert not acl.as_written(users, {**printed, "till": printed["till"] + " +del"})
    assert not acl.as_written(users, {**printed, "till": printed["till"].replace(" on ", " off ")})
    assert not acl.as_written(users, {**printed, "other": "user other on nopass ~* &* +@all"})
    assert not acl.as_written(users, {"chandlery": printed["chandlery"]})
    undone = acl.AclUser("till", ("ab",), (), (), ("+get", "-@all"))
    assert not acl.as_written([undone], {"till": "user till on #ab resetchannels -@all +get"})


def test_a_node_of_a_cluster_says_where_clients_find_it():
    config = NodeConfig(1, "/d", "/a", cluster_port=2, announce=("127.0.0.1", 3))
    text = render({}, config, "chandlery")
    assert {"cluster-enabled yes", "cluster-port 2", "cluster-announce-client-tls-port 3"} <= set(text.splitlines())
    without = render({}, NodeConfig(1, "/d", "/a", cluster_port=2, announce=("127.0.0.1", None)), "chandlery")
    assert "announce-client" not in without
