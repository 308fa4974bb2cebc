"""What the chart must know of kinds, drivers and metrics: its RBAC, its webhook's rules, its dashboard."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from chandlery.driver.kind import Kind
from chandlery.driver.permissions import Rule, merged, permissions_of
from chandlery.gen.crds import HEADER, NoAliases
from chandlery.reconcile import permissions
from chandlery.reconcile.credentials import Credentials
from chandlery.reconcile.operator import Operator

CLUSTER_SCOPED = frozenset(
    {"customresourcedefinitions", "storageclasses", "nodes", "persistentvolumes", "volumesnapshotclasses",
     "gatewayclasses", "ingressclasses", "priorityclasses", "virtualmachineclusterinstancetypes"}
)  # fmt: skip
"""Of what drivers may ask for, that which no namespaced Role can give."""


def driver_rules(kind: Kind) -> tuple[Rule, ...]:
    """What the drivers of a kind declare."""
    return tuple(rule for name in kind.drivers for rule in permissions_of(kind.load_driver(name)))


def _manifests(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    return [rule.manifest() for rule in merged(rules)]


def _split(rules: Sequence[Rule]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    one = merged(rules)
    wide = [rule for rule in one if rule.resources[0] in CLUSTER_SCOPED]
    return _manifests(rule for rule in one if rule not in wide), _manifests(wide)


_MADE = HEADER.replace("from the models", "from kinds and drivers")


def kinds_file(kinds: Iterable[Kind]) -> str:
    """files/kinds.yaml: for each kind where it is served and which rules it needs; the operator's own rules."""
    return _MADE + yaml.dump(facts(kinds), sort_keys=False, width=110)


def kustomization(resources: Sequence[str]) -> str:
    """A Kustomization of these files."""
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(resources)}
    return _MADE + yaml.dump(head, sort_keys=False)


def kustomize_files(kinds: Iterable[Kind], version: str) -> dict[str, str]:
    """What of the Kustomize base follows from drivers, as the chart makes it by default; the rest is written by
    hack/kustomize-base. Path below deploy/kustomize to content.
    """
    known = facts(kinds)
    by_name = [known["kinds"][name] for name in sorted(known["kinds"])]
    full = "chandlery-system-chandlery"
    labels = {
        "app.kubernetes.io/name": "chandlery",
        "app.kubernetes.io/instance": "chandlery",
        "app.kubernetes.io/component": "operator",
        "app.kubernetes.io/part-of": "chandlery",
        "app.kubernetes.io/version": version,
    }
    webhook = {
        "apiGroups": ["admissionregistration.k8s.io"],
        "resources": ["validatingwebhookconfigurations"],
        "resourceNames": [full],
        "verbs": ["get", "patch"],
    }
    wide = [*known["operator"]["cluster"], *(rule for kind in by_name for rule in kind["cluster"]), webhook]
    inside = [*known["operator"]["namespaced"], *(rule for kind in by_name for rule in kind["namespaced"])]
    roles = [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name, "labels": labels},
            "rules": rules,
        }
        for name, rules in ((full, wide), (f"{full}-workloads", inside))
    ]
    classes = [
        {
            "apiVersion": "platform.chandlery.dev/v1alpha1",
            "kind": "ResourceClass",
            "metadata": {"name": f"kubernetes-{name.lower()}", "labels": labels},
            "spec": {"kind": name, "driver": "kubernetes", "default": True},
        }
        for name in sorted(known["kinds"])
        if "kubernetes" in known["kinds"][name]["drivers"]
    ]
    return {
        "base/roles.yaml": _MADE + yaml.dump_all(roles, Dumper=NoAliases, sort_keys=False, width=110),
        "classes/classes.yaml": _MADE + yaml.dump_all(classes, Dumper=NoAliases, sort_keys=False, width=110),
    }


def facts(kinds: Iterable[Kind]) -> dict[str, Any]:
    """For each kind where it is served, which rules it needs and which drivers it has; the operator's own rules."""
    found: dict[str, Any] = {}
    for kind in kinds:
        names = kind.names
        namespaced, wide = _split((*permissions.of_kind(names), *driver_rules(kind)))
        found[kind.name] = {
            "group": names.group,
            "version": names.version,
            "plural": names.plural,
            "namespaced": namespaced,
            "cluster": wide,
            "drivers": [name for name in kind.drivers if name not in ("memory", "local")],
        }
    return {
        "kinds": found,
        "operator": {
            "cluster": _manifests(permissions.CLUSTER),
            "namespaced": _manifests(permissions.NAMESPACED),
            "home": _manifests(permissions.HOME),
        },
    }


@dataclass(frozen=True, slots=True)
class Exported:
    """One metric as Prometheus sees it."""

    name: str
    type: str
    text: str
    labels: tuple[str, ...]


def exported() -> list[Exported]:
    """Every metric of an operator, in the order of definition."""

    async def token() -> str:
        return ""

    operator = Operator(Credentials("https://127.0.0.1:1", ssl.create_default_context(), token, "default"), [], {})
    registry = operator.metrics.registry
    found = []
    for collector in dict.fromkeys(registry._names_to_collectors.values()):  # noqa: SLF001 - label names are told nowhere else
        labels = tuple(getattr(collector, "_labelnames", ()))
        for family in collector.describe() if hasattr(collector, "describe") else collector.collect():
            found.append(Exported(family.name, family.type, family.documentation, labels))
    return found


def dashboard() -> str:
    """files/dashboard.json: one panel for each metric, two for each histogram (how often, how long)."""
    panels: list[dict[str, Any]] = []
    for metric in exported():
        for title, unit, targets in _panels(metric):
            number = len(panels)
            panels.append(
                {
                    "id": number + 1,
                    "type": "timeseries",
                    "title": title,
                    "description": metric.text,
                    "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
                    "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                    "targets": [
                        {"refId": chr(65 + i), "expr": expr, "legendFormat": legend}
                        for i, (expr, legend) in enumerate(targets)
                    ],
                }
            )
    source = {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus"}
    job = {
        "name": "job",
        "label": "Operator",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": "label_values(chandlery_leader, job)",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }
    made = {
        "uid": "chandlery",
        "title": "Chandlery",
        "tags": ["chandlery"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [source, job]},
        "panels": panels,
    }
    return json.dumps(made, indent=1) + "\n"


def _panels(metric: Exported) -> list[tuple[str, str, list[tuple[str, str]]]]:
    where = '{job=~"$job"}'
    by = ", ".join(label for label in metric.labels if label not in ("outcome", "result"))
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", ") if label)
    title = metric.text.rstrip(".")
    if metric.type == "histogram":
        ranks = [(0.5, "p50"), (0.99, "p99")]
        inner = f"sum by ({', '.join(filter(None, ['le', by]))}) (rate({metric.name}_bucket{where}[$__rate_interval]))"
        times = [(f"histogram_quantile({rank}, {inner})", f"{legend} {name}".strip()) for rank, name in ranks]
        every = ", ".join(metric.labels)
        shown = " ".join(f"{{{{{label}}}}}" for label in metric.labels)
        often = [(f"sum by ({every}) (rate({metric.name}_count{where}[$__rate_interval]))", shown)]
        return [(title, "s", times), (f"{title}: how often", "ops", often)]
    if metric.type == "counter":
        rate = f"sum by ({by}) (rate({metric.name}_total{where}[$__rate_interval]))"
        return [(title, "ops", [(rate, legend)])]
    unit = "s" if metric.name.endswith("_seconds") else "short"
    return [(title, unit, [(f"{metric.name}{where}", "{{pod}}")])]
