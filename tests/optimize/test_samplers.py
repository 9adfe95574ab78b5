"""What the samplers learn, through the product's searcher and storage; only training is made up."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import pytest
from optuna.storages import InMemoryStorage

from search.errors import InputError
from search.optimize import Proposer
from search.records import Start, TrialRecord, TrialState
from search.spec import Appraisal, Objective, Sampler, Scheduler, SearchSpec, TrialSpec, Value
from search.spec.space import make
from tests.support.simulated import FIXED, Fate, Setting, play

RANGES: dict[str, Any] = {
    "train.lr": {"low": 0.01, "high": 1.0, "log": True},
    "train.mixup": {"low": 0.0, "high": 1.0},
    "train.batch_size": [16, 32, 64],
}


def searched(fate: Any, trials: int, seed: int = 1, **setting: Any) -> list[TrialRecord]:
    """The trials of a search over `RANGES` with one epoch."""
    objectives = setting.pop("objectives", (Objective.VAL_ERROR,))
    asked = {"sampler": Sampler.FREEZE_THAW, "scheduler": Scheduler.NONE, "trials": trials, "seed": seed}
    search = SearchSpec(**asked, objectives=objectives)
    return play(Setting(search, 1, RANGES, fate=fate, **setting), InMemoryStorage())


def distance(flat: Mapping[str, Value], epoch: int = 1) -> float:
    """In decades, from the best learning rate."""
    return 10 + 20 * abs(math.log10(float(flat["train.lr"]) / 0.05))


def modelled(fate: Any, trials: int, **setting: Any) -> list[TrialRecord]:
    """What a model proposed, of three searches."""
    return [r for seed in range(3) for r in after_startup(searched(fate, trials, seed, **setting))]


def after_startup(records: list[TrialRecord]) -> list[TrialRecord]:
    """The trials after the fifteenth that has a result: the first ones are drawn at random."""
    last = [r.number for r in records if r.curve][14]
    return records[last + 1 :]


def share(records: Sequence[TrialRecord], state: TrialState) -> float:
    """Of these trials, those that ended so."""
    return fmean(r.state is state for r in records)


def test_proposals_move_to_what_is_good() -> None:
    """At random the distance to 0.05 is (0.7^2 + 1.3^2) / 2 / 2 = 0.545 decades on average: an error of 20.9."""
    late = modelled(distance, trials=35)
    assert fmean(r.curve[1] for r in late) < 17.5


def test_a_loss_that_is_not_a_number_is_bad_evidence() -> None:
    """Half of the learning rates diverge; the others are equally good, so nothing else can be learnt."""

    def fate(flat: Mapping[str, Value], epoch: int) -> Fate:
        return math.nan if float(flat["train.lr"]) > 0.1 else 30.0

    late = modelled(fate, trials=35)
    assert share(late, TrialState.DIVERGED) <= 0.25
    assert all(r.curve == {1: 100.0} for r in late if r.state is TrialState.DIVERGED)


def test_out_of_memory_is_learnt() -> None:
    """Two of three batch sizes do not fit; the error says nothing of it."""

    def fate(flat: Mapping[str, Value], epoch: int) -> Fate:
        fits = int(flat["train.batch_size"]) == 16
        return distance(flat) if fits else ("infeasible", "out of memory")

    late = modelled(fate, trials=55)
    assert share(late, TrialState.INFEASIBLE) <= 0.33
    assert not any(r.refused for r in late), "they were started, and count as trials"


def test_beyond_the_limits_is_refused_and_gets_rarer() -> None:
    """Two of three batch sizes cost too much, and would train best; what is refused is never handed out."""
    trained: set[int] = set()

    def appraise(spec: TrialSpec) -> Appraisal:
        over = math.log(spec.train.batch_size / 20)
        return Appraisal(1, 1, 1, {"params": over}, "params above the limit" if over > 0 else None)

    def fate(flat: Mapping[str, Value], epoch: int) -> Fate:
        trained.add(int(flat["train.batch_size"]))
        return distance(flat)

    records = searched(fate, trials=55, appraise=appraise)
    refused = [r for r in records if r.refused]
    assert trained == {16}
    assert len(records) - len(refused) == 55, "what is refused does not count"
    assert {(r.state, r.reason) for r in refused} == {(TrialState.INFEASIBLE, "params above the limit")}
    for record in records:
        assert record.violation == pytest.approx(math.log(record.params["train.batch_size"] / 20))
    late = after_startup(records)
    assert share(records[: -len(late)], TrialState.INFEASIBLE) > 0.5
    assert share(late, TrialState.INFEASIBLE) < 0.25


def test_of_equal_errors_the_cheap_are_preferred() -> None:
    """Errors are all but equal, and say nothing of the batch size, which decides about the MACs."""

    def fate(flat: Mapping[str, Value], epoch: int) -> Fate:
        return 20.0 + float(flat["train.mixup"]) * 1e-9

    def appraise(spec: TrialSpec) -> Appraisal:
        return Appraisal(1, spec.train.batch_size**2, 1, {}, None)

    late = modelled(fate, trials=25, appraise=appraise, objectives=(Objective.VAL_ERROR, Objective.MACS))
    assert fmean(r.params["train.batch_size"] == 16 for r in late) > 0.5  # a third at random


SECOND = [(Sampler.FREEZE_THAW, o) for o in Objective if not o.value.startswith("val_")]


@pytest.mark.parametrize(
    ("sampler", "second"), [*SECOND, (Sampler.RANDOM, Objective.MACS), (Sampler.GRID, Objective.MACS)]
)
def test_every_second_objective_runs(sampler: Sampler, second: Objective) -> None:
    section = {"train.lr": [0.1, 0.2, 0.3, 0.4], "train.batch_size": [16, 32, 64]}
    search = SearchSpec(sampler=sampler, scheduler=Scheduler.NONE, trials=11, objectives=(Objective.VAL_ERROR, second))
    records = play(Setting(search, 1, section, fate=distance), InMemoryStorage())
    assert [r.state for r in records] == [TrialState.COMPLETE] * 11


@pytest.mark.parametrize("sampler", list(Sampler))
def test_starts_come_first_and_once(sampler: Sampler) -> None:
    section: dict[str, Any] = {"train.lr": [0.1, 0.2, 0.3], "train.batch_size": [16, 32, 64]}
    if sampler is not Sampler.GRID:
        section["train.mixup"] = {"low": 0.0, "high": 1.0}  # endless: no configuration comes back of itself
    space = make(section, FIXED | {"train.epochs": 1})
    starts = [space.draw(lambda d, lr=lr: {"train.lr": lr, "train.mixup": 0.5}.get(d.path, 64)) for lr in (0.3, 0.1)]
    search = SearchSpec(sampler=sampler, scheduler=Scheduler.NONE, trials=6)
    storage = InMemoryStorage()
    setting = Setting(search, 1, section, starts=tuple(Start(start, "given") for start in starts), fate=distance)
    records = play(setting, storage, anew=True)
    assert [r.params["train.lr"] for r in records[:2]] == [0.3, 0.1]
    assert [r.params["train.batch_size"] for r in records[:2]] == [64, 64]
    assert len({str(r.params) for r in records}) == 6


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"train.lr": {"low": 0.1, "high": 0.2}}, "train.lr is a continuum; give it choices, or a step"),
        (
            {f"train.{n}": [k / 100 for k in range(1, 19)] for n in ("lr", "weight_decay", "warmup", "ema")},
            "it has more than 100,000 configurations; remove some choices",  # 18^4 = 104,976
        ),
    ],
)
def test_what_a_grid_cannot_exhaust(section: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        Proposer(make(section, FIXED), Sampler.GRID, 0)
    text = f"search.sampler = grid cannot exhaust this space: {message} (or use another sampler)"
    assert str(refused.value) == text
    assert not Proposer(make(section, FIXED), Sampler.RANDOM, 0).finite


def test_equal_trials_are_one_configuration() -> None:
    """Nesterov's momentum has no effect without momentum: 3 x 2 assignments make 5 trials, all beyond the limits."""

    def appraise(spec: TrialSpec) -> Appraisal:
        return Appraisal(2, 1, 1, {"params": math.log(2)}, "params 2 above the limit of 1")

    section = {"train.momentum": [0.0, 0.5, 0.9], "train.nesterov": [False, True]}
    search, storage = SearchSpec(sampler=Sampler.GRID, trials=9), InMemoryStorage()
    records = play(Setting(search, 1, section, appraise=appraise), storage)
    assert [r.refused for r in records] == [True] * 5
    (study,) = storage.get_all_studies()
    assert study.user_attrs["exhausted"] == (
        "all 5 configurations of the space have been tried, but for 5 beyond the limits"
    )
