"""Trials on Ray, and what a person sees of them."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.execution.host import address, connected, join, leave, machines, share, use_token
    from search.execution.recorder import of_study
    from search.execution.session import FinalStage, Interrupt, SearchStage, Session

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

__getattr__ = lazy(
    __name__,
    host="address connected join leave machines share use_token",
    recorder="of_study",
    session="FinalStage Interrupt SearchStage Session",
)
