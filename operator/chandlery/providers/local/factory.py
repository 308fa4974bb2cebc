"""Opens the session of the `local` drivers for the loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chandlery.driver.provider import ProviderSetup
from chandlery.foundation.errors import InvalidConfiguration
from chandlery.providers.local.housekeeping import Limits
from chandlery.providers.local.ports import DEFAULT_RANGE
from chandlery.providers.local.provider import LocalProvider


class LocalProviderFactory:
    """One session per data directory. `data_dir` is where engines live when the ProviderConfig doesn't say."""

    def __init__(
        self,
        data_dir: Path,
        port_range: tuple[int, int] = DEFAULT_RANGE,
        cache_dir: Path | None = None,
        image_dirs: Sequence[Path] = (),
        limits: Limits | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._port_range = port_range
        self._cache_dir = cache_dir
        self._image_dirs = image_dirs
        self._limits = limits

    @property
    def has_leftovers(self) -> bool:
        """Whether anything was made in the data directory that may still run."""
        home = self._data_dir / "instances"
        return home.is_dir() and any(home.iterdir())

    async def open(self, setup: ProviderSetup) -> LocalProvider:
        """Take the data directory.

        Raises:
            InvalidConfiguration: `dataDir` of the ProviderConfig isn't an absolute path.
            AlreadyExists: another operator works on the directory.
        """
        named = setup.settings.get("dataDir")
        if named is not None and not (isinstance(named, str) and Path(named).is_absolute()):
            raise InvalidConfiguration(
                "the data directory must be an absolute path", field="spec.parameters.dataDir", value=named
            )
        provider = LocalProvider(
            Path(named) if named else self._data_dir,
            cache_dir=self._cache_dir,
            port_range=self._port_range,
            clock=setup.clock,
            image_dirs=self._image_dirs,
            limits=self._limits,
        )

        def ended(name: str) -> None:
            uid = provider.instance(name).record.get("owner", {}).get("uid")
            if uid:
                setup.notify(uid)

        provider.notify = ended
        provider.open()
        provider.housekeeping.start()
        return provider

    async def close(self, session: LocalProvider) -> None:
        await session.background.close()
        session.close()
