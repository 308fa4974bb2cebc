"""The drivers of Database, one module each."""
