"""Webhook configurations, compiled for matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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


class Configurations:
    """The webhooks of all configurations of one kind, by configuration name; compiled again when one changes."""

    def __init__(self, api: LocalApi, *, mutating: bool) -> None:
        self._api = api
        self._mutating = mutating
        self._plural = f"{'mutating' if mutating else 'validating'}webhookconfigurations"
        self._seen: list[str] = []
        self._webhooks: tuple[Webhook, ...] = ()

    def current(self) -> tuple[Webhook, ...]:
        if not self._api.count(GROUP, self._plural):
            return ()
        found = self._api.list(GROUP, self._plural)
        seen = [obj["metadata"]["resourceVersion"] for obj in found]
        if seen != self._seen:
            self._webhooks = tuple(
                Webhook.of(webhook, mutating=self._mutating)
                for obj in sorted(found, key=lambda obj: obj["metadata"]["name"])
                for webhook in obj.get("webhooks") or ()
            )
            self._seen = seen
        return self._webhooks
