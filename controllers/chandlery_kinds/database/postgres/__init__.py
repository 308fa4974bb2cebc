"""PostgreSQL from a spec: configuration, SQL and what is read back. No substrate: every driver that runs it uses this."""
