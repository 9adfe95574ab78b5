"""The plans of a study that is in its search: to look at them writes nothing, not even where its finals will be."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.storages.journal import JournalFileBackend

from search.execution.recorder import Recorder
from search.execution.tuner import LedgerSearcher, Loop, Restarts
from search.optimize import FinalPlan, Plan, final_ledger, needed_by_finals, plan_finals
from search.records import Asked, Metrics, Spent, TrialRecord, Trials, TrialState, open_storage
from search.spec import Objective, Sampler, Scheduler, SearchSpec, StudySpec
from tests.support.simulated import Process, Setting, free, opened, short

DATA = {"shape": [8, 8, 1], "classes": list("0123456789"), "train": 80, "validation": 20, "test": 50}
DATA |= {"guess_test": 90.0, "counts_test": [45, 5, *[0] * 8]}
COMPARED = [{"name": "eight", "set": {"net.depth": 8}}, {"name": "fourteen", "set": {"net.depth": 14}}]


def study(**sections: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "study", "data": {"name": "digits"}, **sections})


def finals(
    spec: StudySpec, storage: BaseStorage, *trials: Any, create: bool = False, searched: Spent | None = None
) -> FinalPlan:
    return plan_finals(spec, final_ledger(storage, "study", free, create), Trials(trials), DATA, searched)


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


def test_the_error_that_is_sought_is_recorded() -> None:
    """An epoch has both errors; of a search the one that the objectives begin with is compared, and so it is tested."""
    asked = SearchSpec(sampler=Sampler.RANDOM, scheduler=Scheduler.NONE, objectives=(Objective.VAL_BALANCED_ERROR,))
    recorder = opened(Setting(asked), InMemoryStorage())
    begun = recorder.plan.next()
    assert begun is not None
    metrics = {"val/error": 3.0, "val/balanced_error": 40.0, "cost/seconds": 1.0, "cost/images_per_s": 1.0}
    epoch = {"number": 0, "epoch": 1, "metrics": metrics, "diverged": False, "last": False, "time_ms": 0}
    recorder.result({"number": 0, "epochs": [epoch], "done": False})
    assert recorder.ledger.record(0).curve == {1: 40.0}
    assert recorder.ledger.record(0).objective(Objective.VAL_BALANCED_ERROR) == 40.0


def searched(setting: Setting, together: bool) -> list[TrialRecord]:
    """All trials of a search with one worker, which reports each epoch alone, or those up to the next rung together."""
    recorder = opened(setting, InMemoryStorage())
    plan = recorder.plan
    while asked := plan.next():
        epoch, over = recorder.ledger.record(asked.number).epochs, False
        while not over:
            rungs = [rung for rung in (*plan.rungs, setting.epochs) if rung > epoch]
            upto = rungs[0] if together else epoch + 1
            fates = [setting.fate(asked.spec.flat(), n) for n in range(epoch + 1, upto + 1)]
            errors = [fate if isinstance(fate, float) else 50.0 for fate in fates]
            ended = errors[: len([*takewhile(math.isfinite, errors)]) + 1]  # one that diverges is the last
            over = recorder.result(told(asked.number, *enumerate(ended, epoch + 1), epochs=setting.epochs))
            epoch += len(ended)
    recorder.close()
    return list(recorder.ledger.records)


@pytest.mark.parametrize("sampler", [Sampler.AUTO, Sampler.RANDOM])
def test_epochs_that_are_reported_together_are_decided_about_as_one_by_one(sampler: Sampler) -> None:
    setting = short(sampler, Scheduler.ASHA, first_rung=2)
    alone, together = (searched(replace(setting, epochs=9), way) for way in (False, True))
    assert alone == together
    assert {record.state for record in alone} >= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.DIVERGED}


def told(number: int, *told: tuple[int, float], epochs: int = 9) -> dict[str, Any]:
    """A worker's report: epochs with their errors."""
    costs = {"cost/seconds": 1.0, "cost/images_per_s": 1.0}
    of_each = [
        {
            "number": number,
            "epoch": epoch,
            "metrics": {"val/error": error, **costs},
            "diverged": math.isnan(error),
            "last": epoch == epochs or math.isnan(error),
            "time_ms": epoch,
        }
        for epoch, error in told
    ]
    return {"number": number, "epochs": of_each, "done": any(each["last"] for each in of_each)}


def test_an_epoch_that_is_trained_again_is_not_decided_about_again() -> None:
    """The first trial at the rung went on. By the time its epochs come again, it would not."""
    asked = SearchSpec(sampler=Sampler.RANDOM, first_rung=2, reduction=2)
    recorder = opened(Setting(asked), InMemoryStorage())
    for _ in range(4):
        assert recorder.plan.next() is not None
    assert recorder.plan.rungs == (2, 4, 8)
    assert not recorder.result(told(0, (1, 50.0), (2, 40.0)))
    others = [recorder.result(told(number, (1, 50.0), (2, 30.0 + number))) for number in (1, 2, 3)]
    assert others == [False, True, True]
    before = recorder.ledger.record(0)
    assert not recorder.result(told(0, (1, 50.0)))
    assert not recorder.result(told(0, (2, 40.0)))
    assert recorder.ledger.record(0) == before
    assert recorder.plan.waiting == {2, 3}
    assert not recorder.result(told(0, (2, 40.0), (3, 35.0)))
    assert recorder.result(told(0, (4, 30.0))) is False
    assert recorder.ledger.record(0).curve == {1: 50.0, 2: 40.0, 3: 35.0, 4: 30.0}


@pytest.mark.parametrize(("sought", "tested"), [("val_error", 2.0), ("val_balanced_error", 25.0)])
def test_finals_compare_the_error_that_is_sought(sought: str, tested: float) -> None:
    spec, storage = study(compare=COMPARED, search={"objectives": [sought]}), InMemoryStorage()
    plan = finals(spec, storage, create=True)
    asked = plan.next()
    assert asked is not None
    metrics = {"test/loss": 0.1, "test/error": 2.0, "test/balanced_error": 25.0, "train/error": 7.0}
    costs = {"cost/seconds": 1.0, "cost/images_per_s": 1.0}
    assert plan.metric == "train/error"
    plan.ledger.report(asked.number, 1, 7.0, Metrics(0, metrics | costs))
    plan.ledger.finish(asked.number, TrialState.COMPLETE)
    again = finals(spec, storage)  # as another process finds it
    found = again.results()
    assert found is not None
    assert found.finalists[0].tested == (tested,)
    assert again.ledger.study.trials[0].value == tested
    counted = {"val_error": (90.0, 50), "val_balanced_error": (50.0, pytest.approx(4 / (1 / 45 + 1 / 5)))}
    assert (found.guess, found.effective) == counted[sought]


ALIKE = [*COMPARED, {"name": "slow", "set": {"net.depth": 8, "train.lr": 0.02}}]


def handed_out(plan: FinalPlan, workers: int, together: int = 5) -> list[list[tuple[int | None, int]]]:
    """(Finalist, seed) of the trainings that each of so many workers gets at once."""
    recorder, loop = Recorder(plan, Path("/nonexistent")), Loop()

    def numbers(asked: Sequence[Asked]) -> dict[str, Any]:
        return {"numbers": [one.number for one in asked]}

    searcher = LedgerSearcher(recorder, numbers, workers, loop, Restarts(set), together)
    given = [searcher.suggest(str(worker)) for worker in range(workers)]
    records = [[plan.ledger.record(n) for n in one["numbers"]] for one in given if isinstance(one, dict)]
    return [[(record.finalist, record.seed) for record in own] for own in records]


def test_trainings_of_the_same_steps_share_a_worker_while_others_have_enough() -> None:
    """Rows 0 and 2 are one network. Each worker gets its part, rounded up, of what of the nine no other has."""
    spec = study(compare=ALIKE, finals={"seeds": 3, "max_seeds": 3})
    eights, fourteens = [(0, 0), (2, 0), (0, 1), (2, 1), (0, 2), (2, 2)], [(1, 0), (1, 1), (1, 2)]

    def begin(workers: int, together: int = 5) -> list[list[tuple[int | None, int]]]:
        return handed_out(finals(spec, InMemoryStorage(), create=True), workers, together)

    assert begin(1) == [eights[:5]]
    assert begin(2) == [eights[:5], fourteens[:2]]
    assert begin(3) == [eights[:3], fourteens[:2], eights[3:5]]
    assert begin(2, together=1) == [[(0, 0)], [(1, 0)]]


def test_what_was_left_shares_a_worker_again() -> None:
    spec, storage = study(compare=ALIKE, finals={"seeds": 2, "max_seeds": 2}), InMemoryStorage()
    before = handed_out(finals(spec, storage, create=True), 1)
    assert before == [[(0, 0), (2, 0), (0, 1), (2, 1)]]
    assert handed_out(finals(spec, storage), 2) == [[(0, 0), (2, 0), (0, 1)], [(2, 1)]]


def test_finals_need_the_trainings_of_an_answer_as_long_as_those_of_the_best() -> None:
    """80 images to train on and 20 to validate: the finals train on all 100, a quarter more."""
    spec = study(train={"epochs": 8}, finals={"top": 2, "seeds": 3})

    def trial(number: int, error: float, epochs: int, seconds: float) -> TrialRecord:
        return TrialRecord(number, TrialState.COMPLETE, {}, epochs, {epochs: error}, seconds=seconds)

    best, second, worst = trial(0, 1.0, 8, 16.0), trial(1, 2.0, 8, 32.0), trial(2, 3.0, 4, 400.0)
    assert needed_by_finals(spec, Trials([worst, second, best]), DATA) == (6, 8 * 3.0 * 1.25)
    running = TrialRecord(3, TrialState.RUNNING, {}, 1, {1: 50.0}, seconds=5.0)
    assert needed_by_finals(spec, Trials([running]), DATA) == (6, 8 * 5.0 * 1.25)
    assert needed_by_finals(spec, Trials(), DATA) == (6, 0.0)


def test_a_spent_budget_spares_further_seeds_but_none_that_an_answer_needs() -> None:
    asked = {"compare": COMPARED, "finals": {"seeds": 2, "max_seeds": 5}}
    spec, storage = study(**asked), InMemoryStorage()
    search = spec.search.model_copy(update={"gpu_hours": 1.0})  # a study that compares has none
    rich, poor = (spec.model_copy(update={"search": one}) for one in (spec.search, search))
    plan = finals(poor, storage, create=True, searched=Spent(gpu_hours=2.0))
    errors = {(0, 0): 10.0, (1, 0): 12.6, (0, 1): 11.0, (1, 1): 14.4}  # the race wants to know more
    done = []
    while begun := plan.next():
        record = plan.ledger.record(begun.number)
        assert record.finalist is not None
        done.append((record.finalist, record.seed))
        test = {"test/loss": 0.1, "test/error": errors[done[-1]], "cost/seconds": 1.0, "cost/images_per_s": 1.0}
        plan.ledger.report(begun.number, 1, 7.0, Metrics(0, test))
        plan.ledger.finish(begun.number, TrialState.COMPLETE)
    assert sorted(done) == sorted(errors)
    assert plan.is_complete
    assert finals(rich, storage, searched=Spent(gpu_hours=2.0)).next() is not None
