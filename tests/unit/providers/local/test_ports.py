"""Ports: outside of the kernel's range, never twice, stable in the record."""

import pytest

from chandlery.foundation.errors import QuotaExceeded
from chandlery.providers.local.ports import Ports, usable_range


@pytest.mark.parametrize(
    ("kernel", "want"),
    [
        ("32768\t60999\n", (20000, 31999)),
        ("25000 60999", (20000, 24999)),
        ("1024 30000", (30001, 31999)),
        ("1024 65535", (20000, 31999)),  # no room outside: better inside than nothing
    ],
)
def test_the_range_keeps_out_of_the_kernels(tmp_path, kernel, want):
    file = tmp_path / "range"
    file.write_text(kernel)
    assert usable_range((20000, 31999), file) == want


def chooser(claimed=(), busy=(), first=20000, last=20009):
    return Ports(lambda: claimed, (first, last), probe=lambda port: port not in busy)


def test_claimed_and_busy_ports_are_passed_over():
    assert chooser(claimed=[20000, 20001], busy=[20002]).choose() == 20003


def test_a_preferred_port_is_taken_when_free_and_left_when_not():
    assert chooser().choose(23456) == 23456
    assert chooser(busy=[23456]).choose(23456) == 20000


def test_a_block_is_neighbours_that_are_all_free():
    assert chooser(busy=[20002]).choose(block=3) == 20003


def test_a_port_given_back_is_not_handed_out_again_at_once():
    ports = chooser()
    assert [ports.choose(), ports.choose()] == [20000, 20001]


def test_a_full_range_is_said_in_words():
    with pytest.raises(QuotaExceeded, match="all ports from 20000 to 20009 are taken") as caught:
        chooser(claimed=range(20000, 20010)).choose()
    assert "CHANDLERY_LOCAL_PORT_RANGE" in caught.value.condition_message()


def test_two_directories_begin_at_different_places():
    first, second = chooser(last=31999), chooser(last=31999)
    first.begin("/home/a/data")
    second.begin("/home/b/data")
    one, other = first.choose(), second.choose()
    assert one != other
    assert max(one, other) < 26000, "the upper half stays for others"
    again = chooser(last=31999)
    again.begin("/home/a/data")
    assert again.choose() == one
