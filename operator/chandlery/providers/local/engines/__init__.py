"""The engine catalogue: which engines there are, where they come from, and what is here now."""

from chandlery.providers.local.engines.catalogue import EngineEntry, Source, catalogue, platform_name
from chandlery.providers.local.engines.finder import Engine, Engines
from chandlery.providers.local.engines.problems import InstallingEngine

__all__ = ["Engine", "EngineEntry", "Engines", "InstallingEngine", "Source", "catalogue", "platform_name"]
