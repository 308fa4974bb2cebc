"""What no schema and no CEL can say is said by the models, in the same style."""

import pytest
from pydantic import ValidationError

from chandlery_kinds import KINDS

MODELS = {kind.name: kind.model for kind in KINDS}
WEB = {"name": "web", "targets": [{"name": "a", "address": "192.0.2.1", "port": 80}]}
BASES = {
    "Cache": {},
    "Database": {},
    "Queue": {"storage": {"size": "1Gi"}},
    "LoadBalancer": {"listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}], "pools": [WEB]},
    "VirtualMachine": {"image": {"name": "debian"}},
}


def said(kind: str, **spec) -> list[tuple[str, str]]:
    """(path, message) of everything that is wrong."""
    head = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "status": {}}
    with pytest.raises(ValidationError) as caught:
        MODELS[kind].model_validate({**head, "spec": {**BASES[kind], **spec}})
    return [
        (".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, "))
        for e in caught.value.errors(include_url=False)
    ]


BACKUP = {"destination": {"directory": {"path": "/backups"}}}


@pytest.mark.parametrize(
    ("kind", "spec", "path", "message"),
    [
        (
            "Cache",
            {"backup": {**BACKUP, "schedule": "0 0 31 2 *"}},
            "spec.backup.schedule",
            "never comes: no month of these has such a day",
        ),
        (
            "Cache",
            {"backup": {**BACKUP, "schedule": "30-10 * * * *"}},
            "spec.backup.schedule",
            "minute: 30-10 runs backwards",
        ),
        (
            "Queue",
            {"backup": {**BACKUP, "timeZone": "Mars/Base"}},
            "spec.backup.timeZone",
            "must be a time zone of the IANA database, such as UTC or Europe/Berlin",
        ),
        (
            "Cache",
            {"configuration": {"max-clients": "5", "port": "1"}},
            "spec.configuration",
            (
                "valkey has no setting max-clients: did you mean maxclients?; "
                "port belongs to the driver: use spec.exposure"
            ),
        ),
        (
            "Database",
            {"engine": "mariadb", "configuration": {"max_connections": "5"}},
            "spec.configuration",
            "max_connections must be 10 or more",
        ),
        (
            "LoadBalancer",
            {"routes": [{"name": "a", "path": {"type": "Regex", "value": "/(a"}, "backends": [{"pool": "web"}]}]},
            "spec.routes.0.path",
            "value is no regular expression: missing ), unterminated subpattern at position 1",
        ),
        (
            "VirtualMachine",
            {"snapshots": {"schedule": "0 0 30 2 *"}},
            "spec.snapshots.schedule",
            "never comes: no month of these has such a day",
        ),
        ("VirtualMachine", {"cpu": 2}, "spec.cpu", "Extra inputs are not permitted"),
    ],
)
def test_it_names_field_and_rule(kind: str, spec: dict, path: str, message: str) -> None:
    assert said(kind, **spec) == [(path, message)]


def test_an_unknown_engine_is_one_error_not_two() -> None:
    assert [path for path, _ in said("Cache", engine="mysql", configuration={"a": "b"})] == ["spec.engine"]
