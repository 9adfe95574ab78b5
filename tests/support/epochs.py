"""Epochs as a worker reports them."""

from search.records import Metrics


def epoch_of(seconds: float = 1.0, images_per_s: float = 100.0, time_ms: int = 0, **metrics: float) -> Metrics:
    """One of this speed."""
    return Metrics(time_ms, {"cost/seconds": seconds, "cost/images_per_s": images_per_s, **metrics})
