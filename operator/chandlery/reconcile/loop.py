"""One pass over one object: look, decide, act, look again, tell. The whole state is read each time.

Errors never leave a pass; they become conditions and a date for the next one. What does leave it is cancellation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from chandlery.driver.facts import unknown_facts
from chandlery.driver.health import NoRoom
from chandlery.driver.instrumented import Instrumented
from chandlery.driver.kind import Kind
from chandlery.driver.plan import NO_PLAN, Window, window_of
from chandlery.driver.protocol import Difference, Disruption, DriverContext, Observation, Plan
from chandlery.foundation.context import Context, Logger
from chandlery.foundation.errors import ChandleryError, DeletionProtected, InvalidSpec, Unauthenticated, as_error
from chandlery.foundation.resilience import Backoff
from chandlery.model.base import AnyResource
from chandlery.reconcile.api import FINALIZER, Key, Obj
from chandlery.reconcile.classes import Place, made_by, recorded_class
from chandlery.reconcile.decide import Act, Decision, decide, next_look
from chandlery.reconcile.deletion import Deletion
from chandlery.reconcile.env import NO_ROOM, Environment, traced_pass
from chandlery.reconcile.parse import SpecCache
from chandlery.reconcile.status import Outcome, status_of

_UNFINISHED: Final = Backoff(initial=0.02, maximum=30.0, floor=0.5)


@dataclass(frozen=True, slots=True)
class Next:
    """When the object is worked on again: after so many seconds, or by back-off when `failed`."""

    after: float | None = None
    failed: bool = False


@dataclass(slots=True)
class Job:
    """What one pass knows so far."""

    key: Key
    kind: Kind
    raw: Obj
    obj: AnyResource | None = None
    window: Window | None = None
    made: Place | None = None
    place: Place | None = None
    observed: Observation | None = None
    plan: Plan = NO_PLAN
    binding: str = ""
    error: ChandleryError | None = None
    again: bool = False
    created: bool = False
    """This pass made it, for the first time."""
    acted: bool = False
    """This pass made or changed something."""


@dataclass(slots=True)
class _Newborn:
    """An object that was never told of: since when, on the monotonic clock, and whether it was us who made it."""

    since: float
    created: bool = False


@dataclass(slots=True)
class _Unfinished:
    """What the last pass left to be done although it did what it could, and how many passes before it left the same."""

    fields: frozenset[str]
    passes: int = 0


class Loop:
    """`reconcile(key)` is all there is to it."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._specs = SpecCache()
        self._deletion = Deletion(env, self._specs)
        self._newborn: dict[Key, _Newborn] = {}
        self._unfinished: dict[Key, _Unfinished] = {}
        self._unfit: set[tuple[str, str]] = set()

    async def reconcile(self, key: Key) -> Next:
        """Bring one object closer to what it asks for."""
        raw = self._env.store.get(key)
        if raw is None:
            self._forget(key)
            return Next()
        if key.kind in self._env.retired and not raw["metadata"].get("deletionTimestamp"):
            return Next()
        if self._env.no_room(key, raw):
            return Next(NO_ROOM * (0.5 + self._env.random()))
        with traced_pass(key, raw, self._env.clock):
            if raw["metadata"].get("deletionTimestamp"):
                self._forget(key)
                return Next(await self._deletion.run(key, raw))
            return await self._living(Job(key, self._env.kinds[key.kind], raw))

    def _forget(self, key: Key) -> None:
        self._newborn.pop(key, None)
        self._unfinished.pop(key, None)

    async def _living(self, job: Job) -> Next:
        try:
            await self._steps(job)
        except NoRoom:
            return Next(NO_ROOM * (0.5 + self._env.random()))
        except Exception as error:  # noqa: BLE001 - becomes a condition
            job.error = as_error(error)
            if isinstance(error, Unauthenticated) and job.place is not None:
                self._env.sessions.forget(job.place.config)  # the credentials may be new: read again next time
            self._log(job, error)
        if job.again:
            return Next(0.0)
        wait = self._keeps_quiet(job)
        if wait > 0:
            after = self._next(job).after
            return Next(wait if after is None else min(wait, after))
        try:
            await self._tell(job)
        except Exception as error:  # noqa: BLE001 - becomes a later pass
            self._log(job, error)
            return Next(as_error(error).retry_after, failed=True)
        return self._next(job)

    async def _steps(self, job: Job) -> None:
        env = self._env
        job.made = made_by(job.raw)
        job.obj, new = self._specs.parse(job.kind, job.raw)
        job.window = window_of(job.obj.spec)
        if new:
            env.refer(job.key, job.kind.references(job.obj))
        asked = getattr(job.obj.spec, "class_name", None)
        wanted = env.catalogue.choose(job.kind.name, asked, recorded_class(job.raw))
        moving = job.made if job.made is not None and not job.made.same(wanted) else None
        job.place = self._present(moving) if moving is not None else wanted
        wrong = env.misparametrized(job.kind, wanted)
        if wrong is not None and (job.made is None or not wrong.harmless):
            raise wrong
        refused = _forbidden(job.obj, wanted) or env.drivers.refusal(job.kind, wanted, job.obj)
        if moving is not None:
            refused = refused or wrong
        if refused is not None and job.made is None:
            raise refused
        with env.room(job.key, job.place):
            await self._at_provider(job, refused, moving, wanted)
        if wrong is not None and not job.again:
            raise wrong  # what is there was kept in order by the parameters that are known

    async def _at_provider(self, job: Job, refused: ChandleryError | None, moving: Place | None, wanted: Place) -> None:
        assert job.obj is not None
        assert job.place is not None
        driver = self._env.drivers.get(job.kind, job.place.driver)
        ctx = await self._env.context(job.key, job.raw, job.place)
        job.observed = await driver.observe(ctx, job.obj)
        decision = self._decide(job, refused, moving, wanted)
        job.plan = decision.plan
        await self._act(job, decision, driver, ctx)
        if not job.again:
            await self._bind(job)
        if decision.error is not None:
            raise decision.error

    def _present(self, made: Place) -> Place:
        """Where it was made, with the parameters that its class has now, as far as it is still there."""
        known = self._env.catalogue.classes.get(made.class_name)
        return replace(made, parameters=(known or {}).get("spec", {}).get("parameters") or {})

    def _decide(self, job: Job, refused: ChandleryError | None, moving: Place | None, wanted: Place) -> Decision:
        assert job.obj is not None
        assert job.observed is not None
        difference = None
        if moving is not None:
            if job.observed.exists and getattr(job.obj.spec, "deletion_protection", False):
                refused = refused or DeletionProtected(
                    f"the class {wanted.class_name} is at another provider: moving there deletes the resource",
                    field="spec.className",
                    value=wanted.class_name,
                    hint="Put the old class back, or set spec.deletionProtection to false first.",
                )
            difference = Difference("spec.className", wanted.class_name, moving.class_name, Disruption.DATA_LOSS)
            assert job.place is not None
            if self._env.drivers.refusal(job.kind, job.place, job.obj) is not None:
                job.observed = replace(job.observed, differences=())  # the old driver can't follow the new spec
        return decide(
            job.obj, job.observed, now=self._env.clock.now(), window=job.window, refused=refused, moving=difference
        )

    async def _act(self, job: Job, decision: Decision, driver: Instrumented, ctx: DriverContext) -> None:
        assert job.obj is not None
        assert job.observed is not None
        paused = getattr(job.obj.spec, "paused", False)
        if decision.act is Act.NOTHING:
            if job.observed.exists and not paused and decision.error is None:
                await self._claim(job)
            elif job.observed.exists and job.made is not None and FINALIZER not in _finalizers(job.raw):
                # somebody took it off: what is ours outside needs it, also while nothing else is done
                where = self._env.types[job.key.kind]
                job.raw = await self._env.writer.claim(where, job.key, job.raw, job.made)
            return
        if decision.act is Act.MOVE:
            await self._move(job, driver, ctx)
            return
        await self._claim(job)
        try:
            self._env.fence()
            if decision.act is Act.CREATE:
                await driver.create(ctx, job.obj)
                self._made(job, ctx)
            else:
                await driver.update(ctx, job.obj, replace(job.observed, plan=decision.plan))
                self._updated(job, decision.plan)
        except ChandleryError as error:
            ctx.event("Warning", error.code, error.condition_message())
            job.observed = (
                None  # the failed change may have gone part of the way: what was seen before is no longer known
            )
            job.observed = await driver.observe(ctx, job.obj)
            raise
        job.acted = True
        job.observed = await driver.observe(ctx, job.obj)

    def _made(self, job: Job, ctx: DriverContext) -> None:
        before = job.raw.get("status", {})
        # A first start that had to wait or failed left a name and a phase as well, but nothing to connect to.
        if before.get("externalName") and (before.get("binding") or before.get("endpoint")):
            ctx.event("Warning", "Recreated", f"{before['externalName']} was gone and has been made anew.")
        else:
            job.created = True  # said with the status, when it is known whether there is anything to wait for

    def _updated(self, job: Job, done: Plan) -> None:
        """Routine is what the spec's last change asked for and nobody feels."""
        asked = (job.raw.get("status") or {}).get("observedGeneration") != job.raw["metadata"].get("generation")
        fields = ", ".join(d.field for d in done.changes)
        routine = asked and done.disruption < Disruption.RESTART
        self._env.say(job.raw, "Normal", "Updated", f"Changed {fields} ({done.disruption.label}).", routine=routine)

    async def _claim(self, job: Job) -> None:
        assert job.place is not None
        if FINALIZER in _finalizers(job.raw) and job.made == job.place:
            return
        job.raw = await self._env.writer.claim(self._env.types[job.key.kind], job.key, job.raw, job.place)
        job.made = job.place

    async def _move(self, job: Job, driver: Instrumented, ctx: DriverContext) -> None:
        """Take it away where it is; the next pass makes it where it belongs."""
        assert job.obj is not None
        self._env.fence()
        if await driver.delete(ctx, job.obj):
            ctx.event("Normal", "Moving", f"Removed at the driver {driver.name}, to be made anew by another class.")
            job.raw = await self._env.writer.unclaim(self._env.types[job.key.kind], job.key, job.raw)
            job.again = True
        else:
            job.observed = await driver.observe(ctx, job.obj)

    async def _bind(self, job: Job) -> None:
        assert job.obj is not None
        previous = (job.raw.get("status", {}).get("binding") or {}).get("name", "")
        if job.observed is None or job.observed.binding is None or getattr(job.obj.spec, "paused", False):
            job.binding = previous
            return
        self._env.fence()
        job.binding = await self._env.binder.apply(job.obj, job.observed.binding, previous)
        await self._env.binder.apply_users(job.obj, job.observed.user_bindings)

    def _keeps_quiet(self, job: Job) -> float:
        """Seconds that a new object's first status may still wait, because it is about to be ready; 0: tell now.

        Most engines start in less than `first_status_wait`: one write then says it all. Until then status has what
        its schema gives a new object: pending. Whatever else there is to say is said at once.
        """
        observed, hold = job.observed, self._env.settings.first_status_wait
        told = (job.raw.get("status") or {}).get("observedGeneration", 0) > 0
        starting = observed is not None and observed.exists and not observed.ready and not observed.differences
        if hold <= 0 or told or job.error is not None or not starting or job.raw.get("spec", {}).get("paused"):
            return 0.0
        now = self._env.clock.monotonic()
        newborn = self._newborn.setdefault(job.key, _Newborn(now))
        newborn.created |= job.created
        left = newborn.since + hold - now
        assert observed is not None
        return left if observed.poll_after is not None and observed.poll_after <= left else 0.0

    async def _tell(self, job: Job) -> None:
        newborn = self._newborn.pop(job.key, None)
        self._check_facts(job)
        outcome = self._outcome(job)
        status = status_of(outcome, job.raw.get("status") or {}, self._env.clock.now())
        await self._env.writer.status(self._env.types[job.key.kind], job.key, job.raw, status)
        created = job.created or (newborn is not None and newborn.created)
        if created and job.place is not None:
            said = f"Made by the driver {job.place.driver} as the class {job.place.class_name} says."
            self._env.say(job.raw, "Normal", "Created", said, routine=_ready(job))

    def _check_facts(self, job: Job) -> None:
        """Warn, once for each field, of what a driver says and the API server will drop without a word."""
        if job.observed is None or not job.observed.facts:
            return
        for path in unknown_facts(job.kind.model, job.observed.facts):
            if (job.key.kind, path) not in self._unfit:
                self._unfit.add((job.key.kind, path))
                driver = job.place.driver if job.place else ""
                self._logger(job).warning(
                    "status has no such field: the driver's fact is lost", fact=path, driver=driver
                )

    def _outcome(self, job: Job) -> Outcome:
        meta = job.raw["metadata"]
        names = job.kind.names
        where = f" -n {job.key.namespace}" if job.key.namespace else ""
        return Outcome(
            generation=meta.get("generation", 0),
            uid=meta.get("uid", ""),
            resource=f"{names.singular} {job.key.name}{where}",
            class_name=job.place.class_name if job.place else "",
            driver=job.place.driver if job.place else "",
            observed=job.observed,
            plan=job.plan,
            window=job.window,
            error=job.error,
            binding=job.binding,
            paused=bool(job.raw.get("spec", {}).get("paused")),
            made=job.made is not None,
        )

    def _next(self, job: Job) -> Next:
        if job.error is not None and not job.error.terminal:
            return Next(job.error.retry_after, failed=True)
        interval = (job.place.interval if job.place else None) or self._env.settings.drift_interval
        if job.obj is None:
            return Next(interval)
        now = self._env.clock.now()
        after = next_look(
            job.obj, job.observed, job.plan, now=now, window=job.window, interval=interval, jitter=self._env.random()
        )
        soon = self._goes_on(job)
        return Next(after if soon is None else min(after, soon))

    def _goes_on(self, job: Job) -> float | None:
        """Seconds until the next step of a change that takes several; None when this pass left nothing to do.

        Whether an event tells of our own writes depends on what comes first, the answer or the event: nothing may
        depend on it. What doesn't get on is looked at ever more rarely.
        """
        held = {difference.field for difference in job.plan.held}
        differences = job.observed.differences if job.observed is not None else ()
        left = frozenset(difference.field for difference in differences if difference.field not in held)
        if not job.acted or not left:
            self._unfinished.pop(job.key, None)
            return None
        known = self._unfinished.get(job.key)
        passes = known.passes + 1 if known is not None and known.fields == left else 0
        self._unfinished[job.key] = _Unfinished(left, passes)
        return _UNFINISHED.delay(passes, self._env.random)

    def _logger(self, job: Job) -> Logger:
        words = {"kind": job.key.kind, "namespace": job.key.namespace, "name": job.key.name}
        return Context(clock=self._env.clock).logger.bind(**words)

    def _log(self, job: Job, error: Exception) -> None:
        logger = self._logger(job)
        if isinstance(error, ChandleryError):
            logger.debug("pass stopped", error=error)
        else:
            logger.error("pass failed", exc_info=error)


def _finalizers(raw: Obj) -> Sequence[str]:
    return raw["metadata"].get("finalizers") or ()


def _ready(job: Job) -> bool:
    return job.observed is not None and job.observed.ready


def _forbidden(obj: AnyResource, place: Place) -> ChandleryError | None:
    policy = getattr(obj.spec, "deletion_policy", None)
    if policy is None or not place.policies or policy.value in place.policies:
        return None
    return InvalidSpec(
        f"the ResourceClass {place.class_name} allows {', '.join(place.policies)} only",
        field="spec.deletionPolicy",
        value=policy.value,
    )
