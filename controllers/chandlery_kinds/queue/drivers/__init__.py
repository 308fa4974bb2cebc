"""The drivers of Queue, one module each."""
