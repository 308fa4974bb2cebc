"""The drivers of Cache, one module each."""
