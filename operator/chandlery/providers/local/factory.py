"""Opens the session of the `local` drivers for the loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from chandlery.driver.parameters import Parameters
from chandlery.driver.provider import ProviderSetup
from chandlery.model.words import AbsolutePath
from chandlery.providers.local.housekeeping import Limits
from chandlery.providers.local.ports import DEFAULT_RANGE
from chandlery.providers.local.provider import LocalProvider


class LocalParameters(Parameters):
    """Of a ProviderConfig of the provider `local`."""

    data_dir: Annotated[
        AbsolutePath | None,
        Field(description="Where engines and data are, an absolute path; without it the operator's data directory."),
    ] = None


class LocalProviderFactory:
    """One session per data directory. `data_dir` is where engines live when the ProviderConfig doesn't say."""

    parameters: ClassVar[type[LocalParameters]] = LocalParameters

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
            AlreadyExists: another operator works on the directory.
        """
        named = setup.settings.data_dir if isinstance(setup.settings, LocalParameters) else None
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
