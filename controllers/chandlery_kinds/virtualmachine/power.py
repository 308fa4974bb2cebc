"""Whether a machine should run: what its strategy, its annotations and its past say together. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from chandlery_kinds.virtualmachine.spec_parts import RunStrategy

POWER_ANNOTATION = "compute.chandlery.dev/power"
"""On, Off or Paused. With runStrategy Manual it switches the machine; with the others, Paused pauses it."""
RESTART_ANNOTATION = "compute.chandlery.dev/restart-requested-at"
"""Any text; a new one restarts the guest in an orderly way."""


class Power(StrEnum):
    """What is wanted, and what is found."""

    RUNNING = "Running"
    PAUSED = "Paused"
    OFF = "Off"
    STARTING = "Starting"
    STOPPING = "Stopping"


class Ended(StrEnum):
    """Why a machine is off."""

    SHUTDOWN = "Shutdown"
    """The guest switched itself off."""
    CRASHED = "Crashed"
    """The guest's kernel panicked, or QEMU failed."""
    KILLED = "Killed"
    """Somebody ended QEMU."""
    HALTED = "Halted"
    """We switched it off, as the spec says."""


def wanted(strategy: RunStrategy, annotations: Mapping[str, str], ended: Ended | None, *, was_started: bool) -> Power:
    """Whether the machine should run now.

    Args:
        strategy: of the spec.
        annotations: of the object.
        ended: why it is off; None while it runs, or when it never ran.
        was_started: whether it ever ran.
    """
    asked = annotations.get(POWER_ANNOTATION, "").strip().capitalize()
    if strategy is RunStrategy.HALTED:
        return Power.OFF
    if strategy is RunStrategy.MANUAL and asked not in {"On", "Paused"}:
        return Power.OFF
    if strategy is RunStrategy.ONCE and was_started and ended is not None:
        return Power.OFF
    if strategy is RunStrategy.RERUN_ON_FAILURE and ended is Ended.SHUTDOWN:
        return Power.OFF
    return Power.PAUSED if asked == "Paused" else Power.RUNNING


def why_off(strategy: RunStrategy, ended: Ended | None) -> str:
    """A sentence for a machine that is off and should be."""
    if strategy is RunStrategy.HALTED:
        return "The machine is off, as spec.runStrategy says."
    if strategy is RunStrategy.MANUAL:
        return f"The machine is off; the annotation {POWER_ANNOTATION}=On switches it on."
    if strategy is RunStrategy.ONCE:
        return f"The machine ran once and is off ({ended})."
    return "The guest shut down, and spec.runStrategy starts it again after failures only."
