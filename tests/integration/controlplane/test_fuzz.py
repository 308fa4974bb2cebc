"""No input makes the server fail: what once did, and some thousands more."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from chandlery.testing import RunningControlPlane

FUZZ = Path(__file__).parents[2] / "fuzz"


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_run", FUZZ / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


async def test_what_once_failed_is_answered(plane: RunningControlPlane, fuzz: ModuleType) -> None:
    target, inputs = fuzz.Target(plane.kubeconfig), fuzz.load(FUZZ / "inputs.py")
    async with target.session(4) as session:
        for request in inputs.setup():
            await target.send(session, request)
        for request in inputs.kept(FUZZ / "kept.jsonl"):
            status, wrong = await target.send(session, request)
            assert (status, wrong) != (0, ""), request
            assert not wrong, f"kept.jsonl line {request.number + 1}: {wrong}"


async def test_some_thousands_of_inputs_are_answered(plane: RunningControlPlane, fuzz: ModuleType) -> None:
    inputs = fuzz.load(FUZZ / "inputs.py").Inputs(1)
    async with asyncio.timeout(100):
        statuses, failures = await fuzz.fuzz(fuzz.Target(plane.kubeconfig), inputs, range(3000), 8)
    assert failures == []
    assert statuses.keys() >= Counter({200: 1, 400: 1, 401: 1, 404: 1, 406: 1, 415: 1, 422: 1}).keys()
