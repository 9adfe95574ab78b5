"""execution"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.execution.host import address, connected, join, leave, machines, share, use_token
    from search.execution.recorder import of_study
    from search.execution.session import FinalStage, Interrupt, SearchStage, Session

_WHERE = {
    "FinalStage": "search.execution.session",
    "Interrupt": "search.execution.session",
    "SearchStage": "search.execution.session",
    "Session": "search.execution.session",
    "address": "search.execution.host",
    "connected": "search.execution.host",
    "join": "search.execution.host",
    "leave": "search.execution.host",
    "machines": "search.execution.host",
    "of_study": "search.execution.recorder",
    "share": "search.execution.host",
    "use_token": "search.execution.host",
}
__all__ = [
    "FinalStage",
    "Interrupt",
    "SearchStage",
    "Session",
    "address",
    "connected",
    "join",
    "leave",
    "machines",
    "of_study",
    "share",
    "use_token",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
