"""Caches as accounts on a shared Valkey server: an example of a third party's driver."""
