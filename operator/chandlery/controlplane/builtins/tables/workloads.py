"""Cells of pods and the kinds that make them."""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins.tables import text
from chandlery.controlplane.types import Obj


def _restartable(pod: Obj) -> set[str]:
    return {c["name"] for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"}


def _failure(state: Obj, prefix: str = "") -> str:
    ended = state["terminated"]
    if ended.get("reason"):
        return f"{prefix}{ended['reason']}"
    if ended.get("signal"):
        return f"{prefix}Signal:{ended['signal']}"
    return f"{prefix}ExitCode:{ended.get('exitCode', 0)}"


def _latest(found: str, status: Obj) -> str:
    ended = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
    return max(found, ended)


def pod(obj: Obj) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    sidecars = _restartable(obj)
    total = len(spec.get("containers") or ()) + len(sidecars)
    reason = status.get("reason") or status.get("phase") or ""
    ready = restarts = 0
    last = ""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    initializing = False
    inits = status.get("initContainerStatuses") or ()
    side_restarts, side_last = 0, ""
    for index, one in enumerate(inits):
        state = one.get("state") or {}
        restarts += one.get("restartCount", 0)
        last = _latest(last, one)
        sidecar = one.get("name") in sidecars
        if sidecar:
            side_restarts += one.get("restartCount", 0)
            side_last = _latest(side_last, one)
        if "terminated" in state and state["terminated"].get("exitCode", 0) == 0:
            continue
        if sidecar and one.get("started"):
            ready += 1 if one.get("ready") else 0
            continue
        if "terminated" in state:
            reason = _failure(state, "Init:")
        elif (state.get("waiting") or {}).get("reason") not in (None, "", "PodInitializing"):
            reason = "Init:" + state["waiting"]["reason"]
        else:
            reason = f"Init:{index}/{len(spec.get('initContainers') or ())}"
        initializing = True
        break
    if not initializing or any(
        c.get("type") == "Initialized" and c.get("status") == "True" for c in status.get("conditions") or ()
    ):
        restarts, last = side_restarts, side_last
        running = False
        for one in reversed(status.get("containerStatuses") or ()):
            state = one.get("state") or {}
            restarts += one.get("restartCount", 0)
            last = _latest(last, one)
            if (state.get("waiting") or {}).get("reason"):
                reason = state["waiting"]["reason"]
            elif "terminated" in state:
                reason = _failure(state)
            elif one.get("ready") and "running" in state:
                running = True
                ready += 1
        if reason == "Completed" and running:
            is_ready = any(
                c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ()
            )
            reason = "Running" if is_ready else "NotReady"
    if obj["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    again = f"{restarts} ({text.since(last)} ago)" if restarts and last else str(restarts)
    ips = status.get("podIPs") or ()
    gates = spec.get("readinessGates") or ()
    gate_text = text.NONE
    if gates:
        true = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
        gate_text = f"{sum(1 for g in gates if g.get('conditionType') in true)}/{len(gates)}"
    return [
        obj["metadata"]["name"],
        f"{ready}/{total}",
        reason,
        again,
        text.age(obj),
        (ips[0].get("ip") if ips else status.get("podIP")) or text.NONE,
        spec.get("nodeName") or text.NONE,
        status.get("nominatedNodeName") or text.NONE,
        gate_text,
    ]


def pod_conditions(obj: Obj) -> list[Obj]:
    """Row conditions: a pod that has run is complete."""
    phase = (obj.get("status") or {}).get("phase")
    message = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}.get(phase or "")
    if not message:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": message}]


def pod_template(obj: Obj) -> list[Any]:
    template = obj.get("template") or {}
    return [
        obj["metadata"]["name"],
        *text.containers(template),
        text.labels((template.get("metadata") or {}).get("labels")),
    ]


def deployment(obj: Obj) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    return [
        obj["metadata"]["name"],
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        text.age(obj),
        *text.containers(spec.get("template")),
        text.selector_text(spec.get("selector")),
    ]


def replica_set(obj: Obj) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    return [
        obj["metadata"]["name"],
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        text.age(obj),
        *text.containers(spec.get("template")),
        text.selector(spec.get("selector")),
    ]


def replication_controller(obj: Obj) -> list[Any]:
    spec = obj["spec"]
    return [*replica_set({**obj, "spec": {**spec, "selector": None}})[:-1], text.labels(spec.get("selector"))]


def stateful_set(obj: Obj) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    return [
        obj["metadata"]["name"],
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        text.age(obj),
        *text.containers(spec.get("template")),
    ]


def daemon_set(obj: Obj) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    return [
        obj["metadata"]["name"],
        status.get("desiredNumberScheduled", 0),
        status.get("currentNumberScheduled", 0),
        status.get("numberReady", 0),
        status.get("updatedNumberScheduled", 0),
        status.get("numberAvailable", 0),
        text.labels(((spec.get("template") or {}).get("spec") or {}).get("nodeSelector")),
        text.age(obj),
        *text.containers(spec.get("template")),
        text.selector(spec.get("selector")),
    ]


def controller_revision(obj: Obj) -> list[Any]:
    owner = next((o for o in obj["metadata"].get("ownerReferences") or () if o.get("controller")), None)
    controller = text.NONE
    if owner:
        group = owner.get("apiVersion", "").rpartition("/")[0]
        kind = owner.get("kind", "").lower()
        controller = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return [obj["metadata"]["name"], controller, obj.get("revision", 0), text.age(obj)]


def job(obj: Obj) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    done = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    succeeded = status.get("succeeded", 0)
    if spec.get("completions") is not None:
        completions = f"{succeeded}/{spec['completions']}"
    elif spec.get("parallelism", 0) > 1:
        completions = f"{succeeded}/1 of {spec['parallelism']}"
    else:
        completions = f"{succeeded}/1"
    took = ""
    if status.get("startTime"):
        end = status.get("completionTime")
        took = text.between(status["startTime"], end) if end else text.since(status["startTime"])
    state = "Running"
    if "Complete" in done:
        state = "Complete"
    elif "Failed" in done:
        state = "Failed"
    elif obj["metadata"].get("deletionTimestamp"):
        state = "Terminating"
    else:
        state = next((c for c in ("Suspended", "FailureTarget", "SuccessCriteriaMet") if c in done), state)
    return [
        obj["metadata"]["name"],
        state,
        completions,
        took,
        text.age(obj),
        *text.containers(spec.get("template")),
        text.selector(spec.get("selector")),
    ]


def cron_job(obj: Obj) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    template = ((spec.get("jobTemplate") or {}).get("spec")) or {}
    suspend = spec.get("suspend")
    return [
        obj["metadata"]["name"],
        spec.get("schedule", ""),
        spec.get("timeZone") or text.NONE,
        "<unset>" if suspend is None else str(bool(suspend)),
        len(status.get("active") or ()),
        text.since(status["lastScheduleTime"]) if status.get("lastScheduleTime") else text.NONE,
        text.age(obj),
        *text.containers(template.get("template")),
        text.selector(template.get("selector")),
    ]


def _metric(spec: Obj, status: Obj) -> str:
    kind = spec.get("type", "")
    field = kind[:1].lower() + kind[1:]
    source, now = spec.get(field) or {}, (status.get(field) or {}).get("current") or {}
    target = source.get("target") or {}
    if kind in ("Resource", "ContainerResource"):
        name = source.get("name", "")
        if "averageValue" in target:
            return f"{name}: {now.get('averageValue', text.UNKNOWN)}/{target['averageValue']}"
        current = f"{now['averageUtilization']}%" if "averageUtilization" in now else text.UNKNOWN
        wanted = f"{target['averageUtilization']}%" if "averageUtilization" in target else "<auto>"
        return f"{name}: {current}/{wanted}"
    if kind in ("External", "Object") and "averageValue" in target:
        return f"{now.get('averageValue', text.UNKNOWN)}/{target['averageValue']} (avg)"
    if kind == "Pods":
        return f"{now.get('averageValue', text.UNKNOWN)}/{target.get('averageValue', '0')}"
    return f"{now.get('value', text.UNKNOWN)}/{target.get('value', '0')}"


def autoscaler(obj: Obj) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    target = spec.get("scaleTargetRef") or {}
    metrics, found = spec.get("metrics") or (), status.get("currentMetrics") or ()
    parts = [_metric(one, found[i] if i < len(found) else {}) for i, one in enumerate(metrics)]
    shown = text.NONE
    if parts:
        shown = ", ".join(parts[:2]) + (f" + {len(parts) - 2} more..." if len(parts) > 2 else "")
    least = spec.get("minReplicas")
    return [
        obj["metadata"]["name"],
        f"{target.get('kind', '')}/{target.get('name', '')}",
        shown,
        text.UNSET if least is None else str(least),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        text.age(obj),
    ]


def autoscaler_v1(obj: Obj) -> list[Any]:
    from chandlery.controlplane.builtins.convert import autoscaler_to_v2

    return autoscaler(autoscaler_to_v2(obj))
