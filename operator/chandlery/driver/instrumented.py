"""Observability around any driver, written once: deadline, metrics, trace, log lines, translation of errors.

From the outside in: the span and the timer see everything, the deadline ends what hangs, the provider's health keeps
calls from one that is away, the translation turns what a driver let slip into the project's own errors. Optional
operations (backup, restore ...) are found on `inner`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from chandlery.driver.protocol import Driver, DriverContext, Observation, Unsupported
from chandlery.foundation.clock import ticking
from chandlery.foundation.config import Seconds
from chandlery.foundation.context import Context
from chandlery.foundation.errors import ChandleryError, Internal, Timeout, as_error
from chandlery.model.base import AnyResource

T = TypeVar("T")

VERBS: Final = ("observe", "create", "update", "delete")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that each verb may take. Long work is started by a verb and looked at by later observations."""

    observe: Seconds = 15.0
    """For looking at a resource."""
    create: Seconds = 120.0
    """For beginning to make one."""
    update: Seconds = 120.0
    """For carrying out a plan."""
    delete: Seconds = 120.0
    """For beginning to remove one."""


class Telemetry(Protocol):
    """What the wrapper reports to."""

    def verb(self, kind: str, driver: str, verb: str, outcome: str, seconds: float) -> None:
        """One call of a verb ended: `ok` or the error's code."""

    def span(self, name: str, ctx: Context | None = None, **attributes: str) -> Any:
        """A context manager around one call."""


class Instrumented:
    """A driver that tells what it does and never raises anything but the project's errors."""

    def __init__(self, inner: Driver[Any], kind: str, telemetry: Telemetry, deadlines: Deadlines | None = None) -> None:
        self.inner = inner
        self.name = inner.name
        self._kind = kind
        self._telemetry = telemetry
        self._deadlines = deadlines or Deadlines()

    def unsupported(self, obj: AnyResource, parameters: Any) -> Sequence[Unsupported]:
        """The inner driver's answer; a fault in it is Internal."""
        try:
            return self.inner.unsupported(obj, parameters)
        except ChandleryError:
            raise
        except Exception as error:
            raise self._fault("unsupported", error) from error

    async def observe(self, ctx: DriverContext, obj: AnyResource) -> Observation:
        return await self._call("observe", ctx, self._deadlines.observe, lambda c: self.inner.observe(c, obj))

    async def create(self, ctx: DriverContext, obj: AnyResource) -> None:
        await self._call("create", ctx, self._deadlines.create, lambda c: self.inner.create(c, obj))

    async def update(self, ctx: DriverContext, obj: AnyResource, observed: Observation) -> None:
        await self._call("update", ctx, self._deadlines.update, lambda c: self.inner.update(c, obj, observed))

    async def delete(self, ctx: DriverContext, obj: AnyResource) -> bool:
        return await self._call("delete", ctx, self._deadlines.delete, lambda c: self.inner.delete(c, obj))

    async def _call(
        self, verb: str, ctx: DriverContext, seconds: float, call: Callable[[DriverContext], Awaitable[T]]
    ) -> T:
        clock = ctx.base.clock
        began = clock.monotonic()
        outcome = "Cancelled"
        with self._telemetry.span(f"{self._kind}.{verb}", ctx.base, kind=self._kind, driver=self.name):
            try:
                result = await self._limited(verb, ctx, seconds, call)
                outcome = "ok"
                return result
            except ChandleryError as error:
                outcome = error.code
                ctx.base.logger.info("driver call failed", verb=verb, driver=self.name, error=error)
                raise
            except Exception as error:
                fault = self._fault(verb, error)
                outcome = fault.code
                ctx.base.logger.exception("driver call failed", verb=verb, driver=self.name)
                raise fault from error
            finally:
                took = clock.monotonic() - began
                self._telemetry.verb(self._kind, self.name, verb, outcome, took)
                if verb != "observe" and outcome == "ok":
                    ctx.base.logger.info("driver call done", verb=verb, driver=self.name, seconds=round(took, 4))

    async def _limited(
        self, verb: str, ctx: DriverContext, seconds: float, call: Callable[[DriverContext], Awaitable[T]]
    ) -> T:
        base = ctx.base.child(timeout=seconds)
        left = base.remaining()
        try:
            with ticking(base.clock):
                async with base.clock.timeout(left):
                    if ctx.health is None or verb == "delete":  # a deletion is never kept waiting
                        return await call(_with_base(ctx, base))
                    async with ctx.health.asked():
                        return await call(_with_base(ctx, base))
        except Timeout:
            raise
        except TimeoutError as error:
            if base.remaining():
                raise  # somebody else's, inside the driver
            raise Timeout(f"the time allowed for {verb} by the driver {self.name} is used up ({left:g} s)") from error

    def _fault(self, verb: str, error: Exception) -> ChandleryError:
        translated = as_error(error)
        if isinstance(translated, Internal):
            return Internal(
                f"the driver {self.name} failed in {verb}: {type(error).__name__}", details={"cause": str(error)[:200]}
            )
        return translated


def _with_base(ctx: DriverContext, base: Any) -> DriverContext:
    # dataclasses.replace costs ten times as much, and this is called three times a pass
    return DriverContext(base, ctx.reader, ctx.provider, ctx.parameters, ctx.class_name, ctx.event, ctx.health)
