"""MariaDB from a spec: configuration, SQL and what is read back. Every driver that runs the engine uses this."""
