"""What can be set about the loop."""

from __future__ import annotations

from dataclasses import dataclass, field

from chandlery.driver.instrumented import Deadlines
from chandlery.foundation.config import Seconds, section


@section("loop", title="The reconcile loop")
@dataclass(frozen=True, slots=True)
class LoopSettings:
    """Seconds, unless said otherwise."""

    workers: int = 32
    """Objects worked on at the same time."""
    provider_workers: int = 24
    """Of these, how many may be busy with one provider: a slow one leaves the rest to the others."""
    drift_interval: Seconds = 300.0
    """Between looks for drift, where the class says nothing; spread by a fifth either way."""
    backoff_base: Seconds = 0.25
    """The longest wait before the first repetition; it doubles with each further one."""
    backoff_limit: Seconds = 300.0
    """The longest wait between repetitions."""
    deletion_wait: Seconds = 600.0
    """How long a deletion waits for a missing class, driver or provider before the resource is retained."""
    namespace_deletion_wait: Seconds = 300.0
    """How long any failing deletion may hold up a namespace that is being deleted, before the resource is retained."""
    sweep_interval: Seconds = 600.0
    """Between full lists that notice deletions that no event told of."""
    watch_seconds: Seconds = 290.0
    """How long a watch lasts before it is opened anew."""
    silence_limit: Seconds = 900.0
    """A source that nothing was heard of for so long makes the liveness probe fail."""
    first_status_wait: Seconds = 1.0
    """How long a new object's status may stay pending while its resource starts: most are ready by then, and one write
    says it all. 0 tells each step."""
    routine_events: bool | None = None
    """Write an Event also for what went as the spec asked (Created, Updated, Deleted), which status shows anyway; by
    default on a laptop only: in a cluster each Event is a write to etcd. Repairs, restarts, retained resources and all
    that goes wrong are told in any case."""
    deadlines: Deadlines = field(default_factory=Deadlines)
