"""Helpers for tests, ours and those of people who write operators: a running control plane."""

from chandlery.testing.control_plane import RunningControlPlane, start_control_plane

__all__ = ["RunningControlPlane", "start_control_plane"]
