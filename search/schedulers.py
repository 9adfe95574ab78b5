"""The scheduler that a study asks for."""

from search.rungs import Halving, Hyperband
from search.stopping import MedianStopping, NoStopping, OneEpochTopK, Scheduler
from search.study_sections import Scheduler as Kind
from search.study_sections import SearchSpec


def make_scheduler(search: SearchSpec, epochs: int) -> Scheduler:
    """The scheduler of a study whose complete trials train for `epochs`."""
    first = search.first_rung
    match search.scheduler:
        case Kind.ASHA:
            return Halving(first, search.reduction, epochs)
        case Kind.HYPERBAND:
            return Hyperband(first, search.reduction, epochs)
        case Kind.MEDIAN:
            return MedianStopping(first, epochs)
        case Kind.ONE_EPOCH_TOP_K:
            return OneEpochTopK(search.top_k)
        case Kind.NONE:
            return NoStopping()


def first_rung(scheduler: Scheduler, epochs: int) -> int:
    """The first epoch at which all trials can be compared."""
    return scheduler.rungs[0] if scheduler.rungs else epochs
