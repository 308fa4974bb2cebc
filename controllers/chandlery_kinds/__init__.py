"""The kinds that Chandlery supplies."""
