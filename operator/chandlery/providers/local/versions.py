"""Which version line of an engine an object runs: the one that it has, until its spec names another."""

from __future__ import annotations

from chandlery.providers.local.engines.finder import covers, version_key
from chandlery.providers.local.instance import Instance

RECORD = "version_line"


class VersionLine:
    """The version line of one object's engine. A newer one in the catalogue changes nothing by itself."""

    def __init__(self, instance: Instance, engine: str, wanted: str | None) -> None:
        self._instance = instance
        self._engine = engine
        self._wanted = wanted

    @property
    def line(self) -> str:
        """What should run: what runs already, as long as the spec's version covers it.

        Raises:
            NotSupported: the catalogue has no such version, or not for this platform.
        """
        known = self._instance.record.get(RECORD)
        if known is not None and (self._wanted is None or covers(known, self._wanted)):
            return str(known)
        return self._instance.provider.engines.entry(self._engine, self._wanted).version

    def learn(self, version: str) -> None:
        """A server of this version runs, and nothing is on record: it was started before versions were kept there."""
        if RECORD in self._instance.record:
            return
        entries = self._instance.provider.engines.entries(self._engine)
        known = [entry.version for entry in entries if covers(entry.version, version)]
        if known:
            self._instance.record[RECORD] = known[0]
            self._instance.save()

    def keep(self) -> None:
        """Put on record what runs from now on."""
        line = self.line
        if self._instance.record.get(RECORD) != line:
            self._instance.record[RECORD] = line
            self._instance.save()

    @property
    def available(self) -> str:
        """A newer line that the spec's version would allow, taken when the spec names it; "" when there is none."""
        entries = self._instance.provider.engines.entries(self._engine)
        allowed = [e.version for e in entries if self._wanted is None or covers(e.version, self._wanted)]
        newest = max(allowed, key=version_key, default="")
        return newest if newest and version_key(newest) > version_key(self.line) else ""

    def runs(self, version: str) -> bool:
        """Whether a server of this exact version is of the line that should run."""
        return covers(self.line, version) or covers(version, self.line)
