"""A study from its specification to its answer."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.study.driver import Result
    from search.study.handle import Study
    from search.study.latencies import time_networks
    from search.study.preflight import fetch, planned, within
    from search.study.process import unchanged
    from search.study.request import ENVIRONMENT, KEYS, Changes, changed, data_name, spec_of, specify
else:
    __getattr__ = lazy(
        __name__,
        driver="Result",
        handle="Study",
        latencies="time_networks",
        preflight="fetch planned within",
        process="unchanged",
        request="ENVIRONMENT KEYS Changes changed data_name spec_of specify",
    )
