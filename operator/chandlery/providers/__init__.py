"""Providers: the connection that all drivers of one substrate share, one package each."""
