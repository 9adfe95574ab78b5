"""The records of a study's finals: every training of a finalist, in the storage of the study beside its search."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from optuna.storages import BaseStorage

from search.ledger import Asked, Ledger
from search.limits import Appraisal
from search.records import TrialRecord
from search.space import Space
from search.spec import TrialSpec

SUFFIX = "-finals"  # of the search's name in the storage


class FinalLedger(Ledger):
    """As `Ledger`; a trial is one training of a finalist, its `curve` holds training errors, its value is a test error.

    Args:
        storage: of the study.
        search: name of its search in the storage.
        appraise: what a training costs.
    """

    def __init__(self, storage: BaseStorage, search: str, appraise: Callable[[TrialSpec], Appraisal]) -> None:
        super().__init__(storage, search + SUFFIX, Space((), {}), appraise)

    def enter(self, finalist: int, spec: TrialSpec) -> Asked | None:
        """A new training of a finalist, in one write; `spec` has its seed. None where `appraise` refuses it."""
        return self._enter(spec, {}, {"finalist": finalist})

    def note_test(self, number: int, error: float, loss: float) -> None:
        """Notes what a training gave on the test split: error in percent, loss in nats."""
        test = {"error": error, "loss": loss}
        self._handle(number).set_user_attr("test", test)
        self.standings.put(replace(self.standings[number], test=test))

    def numbered(self, configurations: Sequence[str]) -> dict[str, int]:
        """Digest -> number of configurations that are compared; each keeps the number that it was first given."""
        known: dict[str, int] = self.study.user_attrs.get("numbers", {})
        new = [digest for digest in configurations if digest not in known]
        if new:
            known = {**known, **{digest: len(known) + place for place, digest in enumerate(new)}}
            self.study.set_user_attr("numbers", known)
        return known

    def _value(self, record: TrialRecord) -> float:
        assert record.test is not None  # a complete training has been tested
        return record.test["error"]
