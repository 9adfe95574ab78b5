"""Which training is next, and how far it goes."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.optimize.finals import FinalPlan, copied, final_ledger, needed_by_finals, plan_finals
    from search.optimize.importances import importance
    from search.optimize.plan import Candidate, Plan, title
    from search.optimize.race import verdict
    from search.optimize.samplers import Proposer
    from search.optimize.schedulers import make_scheduler
    from search.optimize.starts import FormerBest, best_of_former, tried_first
    from search.optimize.strategy import Strategy, plan_search
else:
    __getattr__ = lazy(
        __name__,
        finals="FinalPlan copied final_ledger needed_by_finals plan_finals",
        importances="importance",
        plan="Candidate Plan title",
        race="verdict",
        samplers="Proposer",
        schedulers="make_scheduler",
        starts="FormerBest best_of_former tried_first",
        strategy="Strategy plan_search",
    )
