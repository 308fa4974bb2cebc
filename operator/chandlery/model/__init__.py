"""The shape of every custom resource: metadata, common spec and status, conditions, references, and their schemas."""
