import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from chandlery.foundation.validation import Quantity
from chandlery.model.scalars import (
    Address,
    Cidr,
    Cron,
    Duration,
    HostCidr,
    Size,
    TimeOfDay,
    Timestamp,
    TimeZone,
    Version,
)


class Holder(BaseModel):
    size: Size = Size("1Gi")
    duration: Duration = Duration("1s")


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("1k", 1000), ("1Ki", 1024), ("1.5Gi", 3 * 2**29), ("0.5Mi", 2**19), ("2G", 2 * 10**9), ("0.0001Ki", 1)],
)
def test_size_gives_bytes(text: str, number: int) -> None:
    assert Size.parse(text).bytes == number


@given(st.integers(1, 10**12), st.sampled_from(["", "k", "M", "G", "Ki", "Mi", "Gi"]))
def test_size_agrees_with_kubernetes_quantities(number: int, unit: str) -> None:
    text = f"{number}{unit}"
    assert Size.parse(text).bytes == int(Quantity(text))


@pytest.mark.parametrize("text", ["", "0", "-1Gi", "1GB", "1 Gi", "lots", "1e3", "100m", "0.0", "1Gi\n", "١"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a size in bytes above zero"):
        Size.parse(text)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("1h30m", 5400), ("500ms", 0.5), ("1m1m", 120), ("0s", 0)])
def test_duration_gives_seconds(text: str, seconds: float) -> None:
    assert Duration.parse(text).seconds == seconds


@pytest.mark.parametrize("text", ["", "5", "1d", "-1s", "1.5h", "1h1h1h1h1h", "999999s", "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        Duration.parse(text)


@pytest.mark.parametrize("text", ["0 3 * * *", "*/5 * * * *", "@daily", "0 0 1,15 * MON-FRI", "59 23 31 12 7"])
def test_schedules_of_cron(text: str) -> None:
    assert Cron.parse(text) == text


@pytest.mark.parametrize(
    "text", ["", "* * * *", "60 * * * *", "0 24 * * *", "0 0 0 * *", "0 0 * 13 *", "@often", "0 0 * * 8"]
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="five fields"):
        Cron.parse(text)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (TimeOfDay, "23:59", "24:00"),
        (Timestamp, "2026-11-22T10:00:00Z", "2026-11-22 10:00"),
        (TimeZone, "America/Argentina/Salta", "in Berlin"),
        (Cidr, "10.0.0.0/8", "10.0.0.1/8"),
        (Cidr, "2001:db8::/32", "10.0.0.0/33"),
        (HostCidr, "192.0.2.50/24", "192.0.2.50"),
        (Address, "2001:db8::1", "1.2.3"),
        (Version, "9.1.2", "v9"),
    ],
)
def test_each_text_tells_good_from_bad(kind: type[Size], good: str, bad: str) -> None:
    assert kind.parse(good) == good
    with pytest.raises(ValueError, match=re.escape(kind.message)):
        kind.parse(bad)


def test_models_keep_the_text_and_give_the_value() -> None:
    holder = Holder.model_validate({"size": "1.5Gi", "duration": "90s"})
    assert holder.model_dump() == {"size": "1.5Gi", "duration": "90s"}
    assert (holder.size.bytes, holder.duration.seconds) == (1610612736, 90)
    with pytest.raises(ValidationError, match="must be a size"):
        Holder(size=Size("much")).model_validate({"size": "much"})


def test_a_version_allows_those_that_begin_with_it() -> None:
    assert Version("9").matches("9.1.2")
    assert Version("9.1").matches("9.1.2")
    assert not Version("9.1").matches("9.10.0")
    assert Version("18.6").parts == (18, 6)
