"""Trials on Ray, and what a person sees of them."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.execution.host import (
        MACHINES,
        address,
        connected,
        join,
        leave,
        machines,
        ray_folder,
        share,
        use_token,
    )
    from search.execution.recorder import Recorder
    from search.execution.session import Interrupt, Session
else:
    __getattr__ = lazy(
        __name__,
        host="MACHINES address connected join leave machines ray_folder share use_token",
        recorder="Recorder",
        session="Interrupt Session",
    )
