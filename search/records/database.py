"""Optuna's storage in a database that may be away for a while: what was asked then is asked again."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, get_storage
from optuna.trial import FrozenTrial, TrialState

from search.errors import Halted, first_line, public, without_credentials

PATIENCE = 300.0  # seconds for which a database may be away: a server that restarts, a network that is cut
PAUSE = 1.0  # seconds between two attempts

Answer = TypeVar("Answer")
log = logging.getLogger(__name__)


def _patient(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._answered(lambda: getattr(self._storage, name)(*args, **kwargs))

    return method


_Patient: Any = type("_Patient", (BaseStorage,), {name: _patient(name) for name in BaseStorage.__abstractmethods__})


class Database(_Patient):
    """Optuna's storage at a URL. A call waits while the database is away, and does once what it is to do.

    An answer can be lost on its way after the database has done what was asked; asked again, it must not do it twice.
    Only one process at a time may add trials to a study.

    Args:
        url: as SQLAlchemy writes it.
        patience: seconds that a call waits.

    Raises:
        Exception: whatever the database's driver raises where nothing answers at first; one that says that it is
            starting is waited for. From then on `StorageInternalError`, where it was away for longer.
    """

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        self._url, self._patience = url, patience
        self._storage: BaseStorage = self._answered(lambda: get_storage(url))

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        known: int = self.get_n_trials(study_id)

        def made() -> int:
            added = self._storage.get_all_trials(study_id, deepcopy=False)[known:]
            return added[0]._trial_id if added else self._storage.create_new_trial(study_id, template_trial)  # pyright: ignore[reportPrivateUsage] - nothing else names it

        identity = self._answered(made)
        if (number := self.get_trial_number_from_id(identity)) != known:  # Optuna has asked twice by itself
            where = public(self._url)
            raise Halted(f"search.storage = {where!r} has added trial {number} in place of {known}; start it again")
        return identity

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        def done() -> bool:
            try:
                return self._storage.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if self._storage.get_trial(trial_id).state is not state:
                    raise
                return True

        return self._answered(done)

    def _answered(self, ask: Callable[[], Answer]) -> Answer:
        """What `ask` returns, once the database answers."""
        end = time.monotonic() + self._patience
        warned = False
        while True:
            try:
                return ask()
            except Exception as error:
                if not _is_away(error) or time.monotonic() > end:
                    raise
                if not warned:
                    cause = without_credentials(first_line(error.__cause__ or error, "no answer"), self._url)
                    where, wait = public(self._url), f"{self._patience:g} s"
                    log.warning("search.storage = %r does not answer (%s); asking again for %s", where, cause, wait)
                warned = True
            time.sleep(PAUSE)


def _is_away(error: Exception) -> bool:
    """Whether it may answer later. While PostgreSQL starts, recovers or ends, its words are the only sign."""
    return isinstance(error, StorageInternalError) or "the database system is " in str(error)
