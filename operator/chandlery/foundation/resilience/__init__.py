"""Dealing with things that fail for a while. Every wait goes through the context's clock (docs/adr, on resilience)."""

from chandlery.foundation.resilience.breaker import CircuitBreaker, State
from chandlery.foundation.resilience.bucket import TokenBucket
from chandlery.foundation.resilience.bulkhead import Bulkhead
from chandlery.foundation.resilience.retry import Backoff, RetryBudget, retry, transient

__all__ = [
    "Backoff",
    "Bulkhead",
    "CircuitBreaker",
    "RetryBudget",
    "State",
    "TokenBucket",
    "retry",
    "transient",
]
