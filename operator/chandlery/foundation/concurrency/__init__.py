"""Doing things at once without doing too much, or the wrong two together."""

from chandlery.foundation.concurrency.fair import FairSemaphore
from chandlery.foundation.concurrency.keyed import KeyedLock
from chandlery.foundation.concurrency.locks import Fence, Hold, Lock, MemoryLocks, held

__all__ = ["FairSemaphore", "Fence", "Hold", "KeyedLock", "Lock", "MemoryLocks", "held"]
