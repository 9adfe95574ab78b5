"""Which training is next, and how far it goes."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.optimize.finals import Candidate, FinalCourse, candidates, complete, copied, course, finals_of, found
    from search.optimize.importances import MOST_TRIALS, importance
    from search.optimize.lineage import Lineage, Opened
    from search.optimize.race import verdict
    from search.optimize.samplers import Proposer
    from search.optimize.schedulers import make_scheduler
    from search.optimize.strategy import Course, Strategy
else:
    __getattr__ = lazy(
        __name__,
        finals="Candidate FinalCourse candidates complete copied course finals_of found",
        importances="MOST_TRIALS importance",
        lineage="Lineage Opened",
        race="verdict",
        samplers="Proposer",
        schedulers="make_scheduler",
        strategy="Course Strategy",
    )
