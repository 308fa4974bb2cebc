"""What holds for every test."""

from hypothesis import HealthCheck, settings

# How fast a machine makes examples is no property of the code: only what the examples show counts.
settings.register_profile("chandlery", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("chandlery")
