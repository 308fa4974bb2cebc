"""A simulated substrate: one world in memory, with latency, failures and crashes on demand."""

from chandlery.providers.memory.provider import MemoryProvider, MemorySession
from chandlery.providers.memory.world import Call, Crash, Part, World

__all__ = ["Call", "Crash", "MemoryProvider", "MemorySession", "Part", "World"]
