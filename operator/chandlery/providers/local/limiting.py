"""What one process may use at most: set before it becomes the engine, changed while it runs, told when it was reached.

The record holds the directories of its control group (`groups`), because the operator may be in another group itself
after its next start, why there is none though there should be (`unlimited`), its limit of memory (`limit`), what
the group's counter of kills stood at (`kills`), and how often and when last that was because of the limit (`short`,
`short_at`): this stays when it is started again.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandlery.foundation.errors import Unavailable
from chandlery.providers.local import cgroups
from chandlery.providers.local.cgroups import Allowance
from chandlery.providers.local.files import in_words

if TYPE_CHECKING:
    from chandlery.providers.local.process import Process

GONE_SECONDS = 2.0
"""What was killed leaves its control group within so many seconds; what stays is removed later."""
_OF_GROUP = ("groups", "unlimited", "limit", "kills")
_ALL = (*_OF_GROUP, "short", "short_at")


class ProcessLimits:
    """The limits of one process of an instance."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def _entry(self) -> dict[str, Any]:
        found: dict[str, Any] = self._process.instance.record.get("processes", {}).get(self._process.name, {})
        return found

    @property
    def groups(self) -> list[Path]:
        """The directories of its control group."""
        return [Path(path) for path in self._entry.get("groups", ())]

    @property
    def why_not(self) -> str:
        """Why it is in no group though it should be; "" when that isn't so."""
        found: str = self._entry.get("unlimited", "")
        return found

    def actual(self) -> Allowance | None:
        """The limits that the kernel holds it to; None when it is in no group."""
        return cgroups.limits(self.groups)

    # -- starting

    def prepare(self) -> None:
        """Make the group that the process is to be in, when it has limits and they can be set here."""
        instance, entry = self._process.instance, self._process.entry
        cgroups.remove(self.groups)
        self._clear(_OF_GROUP)
        allowance = instance.allowance(self._process.name)
        if not allowance:
            return
        try:
            groups = instance.provider.cgroups.prepare(instance.name, self._process.name, allowance)
        except OSError as error:
            entry["unlimited"] = error.strerror or str(error)
            return
        entry.update({"groups": [str(path) for path in groups], "limit": allowance.memory})
        entry["kills"] = cgroups.kills(groups).count  # not 0 where helpers of the last one still hold the group

    def join(self, pid: int) -> None:
        """Put a process that has just been made into the group."""
        try:
            cgroups.join(self.groups, pid)
        except OSError as error:
            self._process.entry["unlimited"] = error.strerror or str(error)

    # -- while it runs

    def change(self, allowance: Allowance) -> None:
        """Set other limits.

        Raises:
            Unavailable: it uses more memory now than it should have, or the kernel refuses for another reason.
        """
        process, provider = self._process, self._process.instance.provider
        pid = process.state().pid
        if pid is None:
            return
        groups = self.groups
        try:
            if groups and cgroups.limits(groups) is not None:
                cgroups.set_limits(groups, allowance)
            else:
                groups = provider.cgroups.prepare(process.instance.name, process.name, allowance)
            if not cgroups.joined(groups, pid):
                cgroups.join(groups, pid)
        except OSError as error:
            if error.errno == errno.EBUSY and allowance.memory is not None:
                raise Unavailable(
                    f"{process.name} uses more memory now than its new limit of {in_words(allowance.memory)}",
                    hint="It keeps the limit that it had until it uses less, or is restarted.",
                    retry_after=10.0,
                ) from error
            raise Unavailable(f"the limits of {process.name} can't be set: {error.strerror or error}") from error
        process.entry.update({"groups": [str(path) for path in groups], "limit": allowance.memory})
        process.entry.pop("unlimited", None)
        process.instance.save()

    def note_kills(self) -> bool:
        """Look whether the kernel ended the process or a part of it since the last look, because of its limit."""
        found = cgroups.kills(self.groups)
        if not found.by_limit or found.count <= self._entry.get("kills", 0):
            return False
        entry = self._process.entry
        short = entry.get("short", 0) + found.count - entry.get("kills", 0)
        entry.update({"kills": found.count, "short": short, "short_at": self._process.now()})
        self._process.instance.save()
        return True

    # -- stopping

    async def drop(self) -> None:
        """Remove the group: what was killed a moment ago may still be in it for a little."""
        groups, clock = self.groups, self._process.instance.provider.clock
        deadline = clock.monotonic() + GONE_SECONDS
        while not cgroups.remove(groups) and clock.monotonic() < deadline:
            await clock.sleep(0.005)
        self._clear(_ALL)

    def _clear(self, fields: Sequence[str]) -> None:
        for name in fields:
            self._process.entry.pop(name, None)
