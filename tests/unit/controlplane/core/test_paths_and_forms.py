"""Paths, Accept headers, versions, continue tokens: how requests are understood."""

from __future__ import annotations

import pytest

from chandlery.controlplane.discovery import version_rank
from chandlery.controlplane.server.negotiate import Form, negotiate, only_protobuf
from chandlery.controlplane.server.path import parse_path
from chandlery.controlplane.server.quick import read_headers
from chandlery.controlplane.types import ApiError
from chandlery.controlplane.verbs.options import revision
from chandlery.controlplane.verbs.read import decode_continue, encode_continue


@pytest.mark.parametrize(
    ("path", "group", "version", "namespace", "resource", "name", "subresource", "watch"),
    [
        ("/api/v1/pods", "", "v1", "", "pods", "", "", False),
        ("/api/v1/namespaces/n/pods/p/log", "", "v1", "n", "pods", "p", "log", False),
        ("/api/v1/namespaces/n", "", "v1", "n", "namespaces", "n", "", False),
        ("/api/v1/namespaces/n/status", "", "v1", "n", "namespaces", "n", "status", False),
        ("/api/v1/namespaces/n/finalize", "", "v1", "n", "namespaces", "n", "finalize", False),
        ("/api/v1/namespaces", "", "v1", "", "namespaces", "", "", False),
        ("/apis/apps/v1/deployments", "apps", "v1", "", "deployments", "", "", False),
        ("/apis/g.x/v1/namespaces/n/things/t/scale", "g.x", "v1", "n", "things", "t", "scale", False),
        ("/apis/g.x/v1/watch/namespaces/n/things", "g.x", "v1", "n", "things", "", "", True),
        ("/api/v1/namespaces/a%20b/pods", "", "v1", "a b", "pods", "", "", False),
        ("/apis/apps/v1", "", "", "", "", "", "", False),
        ("/healthz", "", "", "", "", "", "", False),
    ],
)
def test_paths(path, group, version, namespace, resource, name, subresource, watch):
    target = parse_path(path)
    if resource:
        assert (target.group, target.version) == (group, version)
    assert (target.namespace, target.resource, target.name) == (namespace, resource, name)
    assert (target.subresource, target.watch) == (subresource, watch)


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("", Form("application/json")),
        ("*/*", Form("application/json")),
        ("application/yaml", Form("application/yaml")),
        ("text/html", None),
        ("text/html, */*;q=0.1", Form("application/json")),
        ("application/vnd.kubernetes.protobuf,application/json", Form("application/json")),
        ("application/vnd.kubernetes.protobuf", None),
        (TABLE, Form("application/json", "Table", "v1")),
        (f"{TABLE},application/json", Form("application/json", "Table", "v1")),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Form("application/json")),
        ("application/json;q=0.1,application/yaml", Form("application/yaml")),
    ],
)
def test_negotiation(header, form):
    assert negotiate(header, transforms=True) == form


def test_only_protobuf():
    assert only_protobuf("application/vnd.kubernetes.protobuf")
    assert not only_protobuf("application/vnd.kubernetes.protobuf, */*")
    assert not only_protobuf("")


def test_versions_are_ordered_as_clients_expect():
    versions = ["v1beta1", "foo", "v2", "v1", "v1alpha2", "v10", "v1beta2", "bar"]
    assert sorted(versions, key=version_rank) == ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha2", "bar", "foo"]


@pytest.mark.parametrize("start", ["/a\0", "/ns/name\0", "/é\0"])
def test_continue_tokens_go_and_come_back(start):
    assert decode_continue(encode_continue(42, start)) == (42, start)


@pytest.mark.parametrize(
    "token", ["garbage", "", "e30", "eyJ2IjoieCJ9", "%%%", encode_continue(0, "/a"), encode_continue(5, "")]
)
def test_bad_continue_tokens_are_refused(token):
    with pytest.raises(ApiError, match="invalid continue token"):
        decode_continue(token)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "99999999999999999999999", " 1", "١"])
def test_bad_revisions(text):
    with pytest.raises(ValueError, match="strconv"):
        revision(text)


@pytest.mark.parametrize(
    ("block", "plain"),
    [
        (b"Host: x\r\nAccept: */*", True),
        (b"Host: x\r\nAccept: application/json\r\nAuthorization: Bearer t", True),
        (b"Host: x\r\nAccept: application/yaml", False),
        (b"Host: x\r\nContent-Length: 5", False),
        (b"Host: x\r\nTransfer-Encoding: chunked", False),
        (b"Host: x\r\nImpersonate-User: u", False),
        (b"Host: x\r\nConnection: close", False),
        (b"Host: x\r\nHost: y", False),
        (b"no colon", False),
        (b" Host: x", False),
        (b"Host : x", False),
    ],
)
def test_only_plain_requests_take_the_short_way(block, plain):
    assert (read_headers(block) is not None) is plain
