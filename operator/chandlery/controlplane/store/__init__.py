"""Where objects are kept: one interface, a driver each for memory, SQLite and etcd."""

from chandlery.controlplane.store.base import Change, Conflict, Store, StoreError
from chandlery.controlplane.store.memory import MemoryStore

__all__ = ["Change", "Conflict", "MemoryStore", "Store", "StoreError"]
