"""Webhook configurations, compiled for matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chandlery.controlplane.admission.compiled import Compiled
from chandlery.controlplane.admission.conditions import Condition, compile_conditions
from chandlery.controlplane.admission.matching import GROUP, Match
from chandlery.controlplane.types import Obj

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi


@dataclass(frozen=True, slots=True, eq=False)
class Webhook:
    """One webhook of one configuration."""

    name: str
    mutating: bool
    client: Obj
    match: Match
    fail: bool
    """failurePolicy Fail: when it can't be asked, the request is refused."""
    side_effects: str
    timeout: int
    versions: tuple[str, ...]
    reinvoke: bool
    conditions: tuple[Condition, ...]

    @classmethod
    def of(cls, webhook: Obj, *, mutating: bool) -> Webhook:
        return cls(
            name=webhook["name"],
            mutating=mutating,
            client=webhook["clientConfig"],
            match=Match.of(webhook, rules=webhook.get("rules") or ()),
            fail=webhook.get("failurePolicy", "Fail") == "Fail",
            side_effects=webhook.get("sideEffects", ""),
            timeout=webhook.get("timeoutSeconds") or 10,
            versions=tuple(webhook.get("admissionReviewVersions") or ()),
            reinvoke=webhook.get("reinvocationPolicy") == "IfNeeded",
            conditions=compile_conditions(webhook.get("matchConditions") or ()),
        )


def webhooks(api: LocalApi, *, mutating: bool) -> Compiled[Webhook]:
    """The webhooks of all configurations of one kind, by configuration name."""

    def make(found: list[Obj]) -> tuple[Webhook, ...]:
        return tuple(
            Webhook.of(webhook, mutating=mutating)
            for obj in sorted(found, key=lambda obj: str(obj["metadata"]["name"]))
            for webhook in obj.get("webhooks") or ()
        )

    return Compiled(api, GROUP, (f"{'mutating' if mutating else 'validating'}webhookconfigurations",), make)
