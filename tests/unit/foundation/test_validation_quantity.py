import json
import re
from decimal import Decimal
from fractions import Fraction

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.foundation.errors import InvalidSpec
from chandlery.foundation.validation import Quantity, as_served
from chandlery.foundation.validation.quantity import PATTERN, Format

POWERS = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Fraction(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
    **{f"{letter}{power}": Fraction(10) ** power for letter in "eE" for power in (-12, -9, -1, 0, 1, 2, 3, 17)},
}
numbers = st.builds(
    lambda sign, whole, fraction: f"{sign}{whole}{fraction}",
    st.sampled_from(["", "", "-", "+"]),
    st.integers(0, 10**12).map(str),
    st.one_of(st.just(""), st.just("."), st.integers(0, 10**10).map(lambda digits: f".{digits}")),
)
texts = st.tuples(numbers, st.sampled_from(sorted(POWERS))).map(lambda parts: (parts[0] + parts[1], *parts))


@given(texts)
def test_the_amount_is_exact_to_the_billionth_and_never_less(parts: tuple[str, str, str]) -> None:
    text, number, suffix = parts
    wanted = Fraction(number) * POWERS[suffix] if number[-1] != "." else Fraction(number[:-1]) * POWERS[suffix]
    if suffix.endswith("i"):
        wanted = max(min(wanted, Fraction(2**63 - 1)), -Fraction(2**63 - 1))
    got = Quantity(text).exact
    assert abs(got) >= abs(wanted)
    assert abs(got) - abs(wanted) < Fraction(1, 10**9)
    assert got == wanted or (wanted * 10**9).denominator != 1


@given(texts)
def test_printing_is_canonical(parts: tuple[str, str, str]) -> None:
    quantity = Quantity(parts[0])
    text = str(quantity)
    again = Quantity(text)
    assert again == quantity, "no amount is lost"
    assert str(again) == text, "and it stays as it is"
    assert "." not in text
    assert "+" not in text
    assert re.fullmatch(PATTERN, text)


@given(texts, texts)
def test_order_and_arithmetic_are_those_of_the_amounts(
    first: tuple[str, str, str], second: tuple[str, str, str]
) -> None:
    a, b = Quantity(first[0]), Quantity(second[0])
    assert (a < b) == (a.exact < b.exact)
    assert (a == b) == (a.exact == b.exact)
    assert (hash(a) == hash(b)) or a != b
    assert (a + b).exact == a.exact + b.exact
    assert (a - b).exact == a.exact - b.exact
    assert (a * 3).exact == a.exact * 3
    assert (-a).exact == -a.exact
    assert int(a) >= a.exact if a.exact >= 0 else int(a) <= a.exact
    assert abs(int(a) - a.exact) < 1


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("1.1Ki", "1126400m"),
        ("1000m", "1"),
        ("0.1", "100m"),
        ("1000k", "1M"),
        ("1e3", "1e3"),
        ("12345e-4", "1234500e-6"),
        ("0Gi", "0"),
        ("-0", "0"),
        ("0.1n", "1n"),
        ("8Ei", "9223372036854775807"),
        ("1000E", "1e21"),
        ("1k", "1k"),
        ("1Ki", "1Ki"),
    ],
)
def test_canonical_forms(text: str, canonical: str) -> None:
    assert str(Quantity(text)) == canonical


def test_what_an_api_server_gives_back_where_its_fast_path_keeps_the_text() -> None:
    assert [as_served(text) for text in ("+5", "1.", "005", "1000m", "1.k", "1Gi", "0.1", "0")] == [
        *("+5", "1.", "005", "1", "1.k", "1Gi", "100m", "0")
    ]


@pytest.mark.parametrize(
    "text",
    ["", " ", "1 Gi", "Gi", "1gi", "1GB", "1KB", "1i", "1mi", "0x1", "1,5", "1e", "e3", "1e1.5", "--1",
     "+", "-", ".", "1..2", "NaN", "inf", "１", "1e301", "1" * 129],
)  # fmt: skip
def test_refuses_what_is_no_quantity_and_says_how_it_is_written(text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        Quantity(text, field="spec.memory")
    assert caught.value.field == "spec.memory"
    assert "512Mi" in caught.value.condition_message() or "exponent" in caught.value.condition_message()


@pytest.mark.parametrize("value", [True, None, [], float("nan"), float("inf"), b"1"])
def test_refuses_other_types(value: object) -> None:
    with pytest.raises(InvalidSpec):
        Quantity(value)  # type: ignore[arg-type]


def test_numbers_of_every_kind() -> None:
    assert Quantity(0.1) == Quantity("100m")
    assert Quantity(3) == 3
    assert Quantity(Decimal("0.25")).milli == 250
    assert Quantity(Fraction(1, 3)).nano == 333333334
    assert Quantity("1m").milli == 1
    assert Quantity("1u").milli == 1, "rounded away from zero, as CPU limits are"
    assert Quantity("-1u").milli == -1
    assert str(Quantity.bytes(3 * 2**30)) == "3Gi"
    assert float(Quantity("1500m")) == 1.5
    assert Quantity(Quantity("1Gi")).format is Format.BINARY
    assert str(Quantity(0) + Quantity("1Gi")) == "1Gi"
    assert not Quantity("0")
    assert Quantity("1") != "1"


class Spec(pydantic.BaseModel):
    memory: Quantity


def test_as_a_field_of_a_model() -> None:
    assert Spec.model_validate({"memory": "1024Mi"}).model_dump(mode="json") == {"memory": "1Gi"}
    assert json.loads(Spec(memory=Quantity("2")).model_dump_json()) == {"memory": "2"}
    assert Spec.model_validate({"memory": 5}).memory == 5
    with pytest.raises(pydantic.ValidationError, match="must be a quantity"):
        Spec.model_validate({"memory": "lots"})
    assert Spec.model_json_schema()["properties"]["memory"]["x-kubernetes-int-or-string"] is True
