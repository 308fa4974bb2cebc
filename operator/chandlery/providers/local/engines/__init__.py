"""The engine catalogue: which engines there are, where they come from, and what is here now."""

from chandlery.providers.local.engines.catalogue import EngineEntry, Source, catalogue, platform_name
from chandlery.providers.local.engines.finder import Engine, Engines

__all__ = ["Engine", "EngineEntry", "Engines", "Source", "catalogue", "platform_name"]
