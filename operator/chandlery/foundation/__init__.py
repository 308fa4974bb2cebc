"""What every room stands on: errors, time, context, logs, settings, checks, and the tools to wait and retry."""
