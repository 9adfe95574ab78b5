"""Which training is next, and how far it goes."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.optimize.finals import (
        SEED,
        Candidate,
        FinalCourse,
        candidates,
        complete,
        copied,
        course,
        finals_of,
        found,
    )
    from search.optimize.importances import MOST_TRIALS, importance
    from search.optimize.lineage import (
        Kept,
        Opened,
        check_owner,
        count_finished,
        delete,
        family,
        identity,
        keys,
        latest,
        open_ledger,
        trials_of,
    )
    from search.optimize.race import verdict
    from search.optimize.samplers import Evidence, Proposer, starts
    from search.optimize.schedulers import Halving, Hyperband, OneEpochTopK, first_rung, make_scheduler
    from search.optimize.strategy import Course, Strategy

__all__ = [
    "MOST_TRIALS",
    "SEED",
    "Candidate",
    "Course",
    "Evidence",
    "FinalCourse",
    "Halving",
    "Hyperband",
    "Kept",
    "OneEpochTopK",
    "Opened",
    "Proposer",
    "Strategy",
    "candidates",
    "check_owner",
    "complete",
    "copied",
    "count_finished",
    "course",
    "delete",
    "family",
    "finals_of",
    "first_rung",
    "found",
    "identity",
    "importance",
    "keys",
    "latest",
    "make_scheduler",
    "open_ledger",
    "starts",
    "trials_of",
    "verdict",
]

__getattr__ = lazy(
    __name__,
    finals="Candidate FinalCourse SEED candidates complete copied course finals_of found",
    importances="MOST_TRIALS importance",
    lineage="Kept Opened check_owner count_finished delete family identity keys latest open_ledger trials_of",
    race="verdict",
    samplers="Evidence Proposer starts",
    schedulers="Halving Hyperband OneEpochTopK first_rung make_scheduler",
    strategy="Course Strategy",
)
