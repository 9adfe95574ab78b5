"""Which training is next, and how far it goes."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.optimize.finals import FinalPlan, copied, final_ledger, plan_finals
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
    from search.optimize.plan import SEED, Candidate, Plan, title
    from search.optimize.race import verdict
    from search.optimize.samplers import Evidence, Proposer, starts
    from search.optimize.schedulers import Halving, Hyperband, OneEpochTopK, first_rung, make_scheduler
    from search.optimize.strategy import Strategy, plan_search

__all__ = [
    "MOST_TRIALS",
    "SEED",
    "Candidate",
    "Evidence",
    "FinalPlan",
    "Halving",
    "Hyperband",
    "Kept",
    "OneEpochTopK",
    "Opened",
    "Plan",
    "Proposer",
    "Strategy",
    "check_owner",
    "copied",
    "count_finished",
    "delete",
    "family",
    "final_ledger",
    "first_rung",
    "identity",
    "importance",
    "keys",
    "latest",
    "make_scheduler",
    "open_ledger",
    "plan_finals",
    "plan_search",
    "starts",
    "title",
    "trials_of",
    "verdict",
]

__getattr__ = lazy(
    __name__,
    finals="FinalPlan copied final_ledger plan_finals",
    importances="MOST_TRIALS importance",
    lineage="Kept Opened check_owner count_finished delete family identity keys latest open_ledger trials_of",
    plan="Candidate Plan SEED title",
    race="verdict",
    samplers="Evidence Proposer starts",
    schedulers="Halving Hyperband OneEpochTopK first_rung make_scheduler",
    strategy="Strategy plan_search",
)
