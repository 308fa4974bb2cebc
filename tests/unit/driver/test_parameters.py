"""Parameters: read by what is declared, everything else is named with the way out."""

from typing import Annotated

import pytest
from pydantic import Field

from chandlery.driver.parameters import NONE, NOTHING, InvalidParameters, OneOf, Parameters, names_of, read
from chandlery.model.base import Model
from chandlery.model.words import Name

READER = "the driver acme of Cache"


class Site(Model):
    class_name: Annotated[Name, Field(description="Which.")]
    racks: tuple[Annotated[int, Field(ge=1)], ...] = ()


class Acme(Parameters):
    region: Annotated[str, Field(min_length=2, description="Where.")] = "eu"
    images: dict[Annotated[str, OneOf("valkey", "redis")], str] = Field(default_factory=dict)
    site: Site | None = None
    fast: bool = False


class Strict(Parameters):
    endpoint: Annotated[Name, Field(description="Where it is.")]


def said(given, model=Acme, **more):
    error = read(model, given, reader=READER, **more).error
    assert error is not None
    return [str(cause) for cause in (error.causes or (error,))]


def test_what_is_declared_is_read_by_type() -> None:
    found = read(Acme, {"region": "us", "images": {"redis": "a/b"}, "site": {"className": "big"}}, reader=READER)
    assert found.error is None
    values = found.usable()
    assert isinstance(values, Acme)
    assert (values.region, values.images["redis"], values.site.class_name) == ("us", "a/b", "big")
    assert read(Acme, None, reader=READER).usable() == Acme()
    assert read(Parameters, {}, reader=READER).usable() == NONE
    assert NOTHING.usable() is NONE


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"regoin": "us"}, f"spec.parameters.regoin: {READER} has no such parameter: did you mean region?"),
        ({"Region": "us"}, f"spec.parameters.Region: {READER} has no such parameter: did you mean region?"),
        ({"zone": "a"}, f"spec.parameters.zone: {READER} has no such parameter: it takes region, images, site, fast"),
        ({"region": 7}, "spec.parameters.region: must be text (got 7)"),
        ({"region": "x"}, 'spec.parameters.region: must have at least 2 characters (got "x")'),
        ({"fast": "often"}, 'spec.parameters.fast: must be true or false (got "often")'),
        ({"images": "a/b"}, 'spec.parameters.images: must be a map (got "a/b")'),
        (
            {"images": {"valky": "a/b"}},
            f"spec.parameters.images.valky: {READER} has no such name here: did you mean valkey?",
        ),
        (
            {"images": {"postgres": "a"}},
            f"spec.parameters.images.postgres: {READER} has no such name here: it takes valkey, redis",
        ),
        ({"site": {}}, f"spec.parameters.site.className: {READER} needs it"),
        (
            {"site": {"className": "a", "rack": 1}},
            f"spec.parameters.site.rack: {READER} has no such name here: did you mean racks?",
        ),
        ({"site": {"className": "a", "racks": [1, 0]}}, "spec.parameters.site.racks[1]: must be 1 or more (got 0)"),
        ({"site": {"className": "a", "racks": 3}}, "spec.parameters.site.racks: must be a list (got 3)"),
    ],
)
def test_what_is_wrong_is_named(given, message) -> None:
    assert said(given) == [message]


def test_the_way_out_lists_what_there_is() -> None:
    error = read(Acme, {"zone": "a"}, reader=READER).error
    assert error.code == "InvalidParameters"
    assert "it takes region, images, site, fast. Correct spec.parameters" in error.condition_message()
    assert (
        f"spec.parameters.a: {READER} takes no parameters: leave it out."
        in read(Parameters, {"a": 1}, reader=READER).error.condition_message()
    )
    assert names_of(Acme) == ("region", "images", "site", "fast")


def test_several_are_told_at_once_and_where_they_are() -> None:
    found = said({"zone": "a", "fast": 3}, where="ResourceClass near")
    known = "region, images, site, fast"
    assert found == [
        "ResourceClass near, spec.parameters.fast: must be true or false (got 3)",
        f"ResourceClass near, spec.parameters.zone: {READER} has no such parameter: it takes {known}",
    ]


def test_the_value_of_an_unknown_name_is_never_shown() -> None:
    """It may be a secret in the wrong place."""
    error = read(Acme, {"password": "hunter2", "images": {"token": "hunter2"}}, reader=READER).error
    assert "hunter2" not in error.condition_message()
    assert "hunter2" not in str(error.status())


def test_unknown_names_leave_the_others_usable() -> None:
    found = read(Acme, {"zone": "a", "region": "us"}, reader=READER)
    assert found.error.harmless
    assert found.usable().region == "us"


def test_with_a_bad_value_nothing_is_guessed() -> None:
    for model, given in ((Acme, {"zone": "a", "region": 1}), (Acme, {"region": 1}), (Strict, {}), (Strict, {"a": 1})):
        found = read(model, given, reader=READER)
        assert not found.error.harmless
        with pytest.raises(InvalidParameters):
            found.usable()


def test_each_error_is_a_new_one() -> None:
    """One that is raised in every pass would gather the frames of all of them."""
    found = read(Acme, {"zone": "a"}, reader=READER)
    assert found.error is not found.error
    assert str(found.error) == str(found.error)
