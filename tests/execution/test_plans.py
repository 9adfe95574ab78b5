"""The plans of a study that is in its search: to look at them writes nothing, not even where its finals will be."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.storages.journal import JournalFileBackend

from search.optimize import FinalPlan, Plan, final_ledger, plan_finals
from search.records import Trials, open_storage
from search.spec import Sampler, Scheduler, StudySpec
from tests.support.simulated import Process, free, opened, short

DATA = {"shape": [8, 8, 1], "classes": list("0123456789"), "train": 80, "validation": 20, "test": 50}
COMPARED = [{"name": "eight", "set": {"net.depth": 8}}, {"name": "fourteen", "set": {"net.depth": 14}}]


def study(**sections: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "study", "data": {"name": "digits"}, **sections})


def finals(spec: StudySpec, storage: BaseStorage, *trials: Any, create: bool = False) -> FinalPlan:
    return plan_finals(spec, final_ledger(storage, "study", free, create), Trials(trials), DATA)


def values(plan: Plan) -> dict[str, Any]:
    """All that a reader may ask."""
    named = {name for kind in type(plan).__mro__ for name, value in vars(kind).items() if isinstance(value, property)}
    assert {"is_complete", "total", "unfinished", "records"} <= named
    return {name: getattr(plan, name) for name in named}


@pytest.mark.parametrize("sections", [{}, {"compare": COMPARED}], ids=["search", "compare"])
def test_to_read_a_study_in_its_search_writes_nothing(sections: dict[str, Any], tmp_path: Path) -> None:
    process = Process(short(Sampler.FREEZE_THAW, Scheduler.ASHA), tmp_path, 2)
    assert all(process.step() for _ in range(30)), "it is not over"
    journal = tmp_path / "optuna.journal"
    before = journal.read_bytes()
    plan = opened(process.setting, tmp_path).plan
    after_search = finals(study(**sections), open_storage(journal), *plan.records)
    assert not values(plan)["is_complete"]
    assert len(after_search.candidates) == (2 if sections else 3)
    assert values(after_search)["total"] == values(after_search)["total"] > 0
    assert after_search.results() is not None
    assert journal.read_bytes() == before
    stored = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    assert optuna.get_all_study_names(stored) == ["study"]


def test_finals_that_begin_are_found_again() -> None:
    storage = InMemoryStorage()
    assert finals(study(compare=COMPARED), storage).ledger.records == ()
    assert optuna.get_all_study_names(storage) == []
    begun = finals(study(compare=COMPARED), storage, create=True)
    first = begun.next()
    assert first is not None
    assert optuna.get_all_study_names(storage) == ["study/finals"]
    assert [asked.number for asked in finals(study(compare=COMPARED), storage).unfinished] == [first.number]


def test_what_is_compared_keeps_its_number() -> None:
    """A row is removed and another comes before the rest: its runs in MLflow stay its own."""
    storage = InMemoryStorage()
    two = finals(study(compare=COMPARED), storage, create=True)
    two.ledger.save_numbers({c.spec.digest: c.number for c in two.candidates})
    changed = finals(study(compare=[{"name": "twenty", "set": {"net.depth": 20}}, COMPARED[1]]), storage)
    assert [(c.label, c.number) for c in changed.candidates] == [("twenty", 2), ("fourteen", 1)]
