"""Every manifest in a README is one that the model takes, and refers to what it names."""

import pytest

from chandlery.model.examples import Example, examples, readme_examples
from chandlery_kinds import KINDS

ALL = [(kind, example) for kind in KINDS for example in readme_examples(kind.package)]


def test_each_kind_shows_a_minimal_a_typical_and_a_full_manifest() -> None:
    for kind in KINDS:
        titles = [e.title for e in readme_examples(kind.package)]
        assert titles[:1] == ["Minimal"], kind.name
        assert {"Typical", "Full"} <= set(titles), kind.name


@pytest.mark.parametrize(("kind", "example"), ALL, ids=[f"{k.name}-{e.title}" for k, e in ALL])
def test_the_model_takes_it(kind, example: Example) -> None:
    obj = kind.model.model_validate({**example.manifest, "status": {}})
    assert obj.api_version == kind.names.api_version
    assert obj.kind == kind.name
    again = kind.model.model_validate({**obj.model_dump(mode="json", by_alias=True), "status": {}})
    assert again.spec == obj.spec


def test_full_examples_leave_hardly_a_field_out() -> None:
    """A field that no example shows is one that nobody finds."""
    for kind in KINDS:
        shown = set().union(*(e.manifest["spec"].keys() for e in readme_examples(kind.package)))
        fields = {f.alias or n for n, f in kind.model.model_fields["spec"].annotation.model_fields.items()}
        assert fields - shown <= {"adopt", "paused"}, kind.name


def refs(name: str, title: str) -> set[str]:
    kind = next(k for k in KINDS if k.name == name)
    example = next(e for e in readme_examples(kind.package) if e.title == title)
    return {str(r) for r in kind.references(kind.model.model_validate({**example.manifest, "status": {}}))}


def test_references() -> None:
    assert refs("Cache", "Minimal") == set()
    assert refs("Cache", "Full") == {"Secret feed-writer", "Secret backup-credentials"}
    assert refs("Database", "Full") == {
        "Secret ledger-init", "Secret ledger-password", "Secret ledger-tls", "Secret backup-credentials",
    }  # fmt: skip
    assert refs("Queue", "Sharing a broker") == {"Queue payments"}
    assert refs("LoadBalancer", "Typical") == {"Secret shop-tls", "Service site", "VirtualMachine *"}
    assert refs("LoadBalancer", "Full") >= {"Database ledger", "Secret clients-ca", "Secret backend-ca"}
    assert refs("VirtualMachine", "Full") == {"Secret builder-init"}


def test_blocks_that_are_no_objects_are_passed_over() -> None:
    text = "# One\n```yaml\na: 1\n```\n## Two\n```yaml\napiVersion: v1\nkind: Secret\nmetadata: {name: x}\n```\n"
    assert [(e.title, e.manifest["kind"]) for e in examples(text)] == [("Two", "Secret")]
