"""Studies that a process left: what waited, what had ended, and what was exhausted, as another process finds it."""

import math
from pathlib import Path

import pytest

from search.records import TrialState
from search.spec import Sampler, Scheduler
from tests.support.epochs import epoch_of
from tests.support.simulated import EPOCHS, Process, Setting, opened, play, short, stored


def test_an_exhausted_space_stays_so(tmp_path: Path) -> None:
    """Found out by the only worker when it asks for the third trial."""
    asked = short(Sampler.RANDOM, Scheduler.ASHA, trials=9)
    few = Setting(asked.search, EPOCHS, {"train.lr": [0.02, 0.1], "train.batch_size": [16]})
    assert len(play(few, tmp_path)) == 2
    again = opened(few, tmp_path)
    assert again.ledger.exhausted == "all 2 configurations of the space have been tried"
    assert again.plan.next() is None


def reported(setting: Setting, where: Path, *curves: list[float]) -> None:
    """A study whose process died after these reports, before it drew anything from them."""
    ledger = opened(setting, where).ledger
    for number, (curve, chosen) in enumerate(zip(curves, setting.space.combinations(values=True), strict=False)):
        ledger.add(chosen)
        for epoch, error in enumerate(curve, 1):
            ledger.report(number, epoch, error, epoch_of(0.5, 100.0))


def test_what_waited_still_waits_for_another_process(tmp_path: Path) -> None:
    """Two have become promotable, of the first rung and of the second: the second's comes first, as without the end."""
    asked = short(Sampler.RANDOM, Scheduler.ASHA)
    curves = [[20.0], [10.0, 9.0], [11.0, 12.0], [50.0], [60.0], [70.0]]  # 3 places after one epoch, 1 after two
    reported(asked, tmp_path, *curves)
    before = opened(asked, tmp_path).ledger
    for number in range(6):
        before.hold(number)
    strategy = opened(asked, tmp_path).plan
    assert strategy.unfinished == []
    promoted = [strategy.next(), strategy.next()]
    assert [a.number for a in promoted if a] == [1, 0]
    assert strategy.waiting == {2, 3, 4, 5}


def test_a_trial_that_had_ended_is_not_compared(tmp_path: Path) -> None:
    """It died between the report of the last epoch, or of one without a number, and the ending."""
    last = Setting(short(Sampler.RANDOM, Scheduler.ASHA, trials=2).search, 1)
    reported(last, tmp_path, [30.0], [20.0])
    assert [r.state for r in play(last, tmp_path)] == [TrialState.COMPLETE] * 2
    lost = short(Sampler.RANDOM, Scheduler.ASHA, trials=3)
    diverging = Setting(lost.search, EPOCHS, fate=lambda flat, epoch: math.nan)
    (tmp_path / "lost").mkdir()
    reported(diverging, tmp_path / "lost", [20.0], [30.0], [math.nan])
    assert play(diverging, tmp_path / "lost")[2].state is TrialState.DIVERGED


@pytest.mark.parametrize("scheduler", list(Scheduler))
def test_workers_that_die_together_lose_nothing(scheduler: Scheduler, tmp_path: Path) -> None:
    """Four workers, the process ended after every 7th result: no trial is lost, trained twice, or left open."""
    asked = short(Sampler.RANDOM, scheduler, reduction=3)
    process = Process(asked, tmp_path, 4)
    while all(process.step() for _ in range(7)):
        process = Process(asked, tmp_path, 4)
    process.recorder.close()
    records = process.recorder.ledger.records
    assert len(records) == asked.search.trials
    assert not any(r.running for r in records)
    assert [r.seconds or 0 for r in records] == [0.5 * r.epochs for r in records], "each epoch counted once"
    assert [t.state.is_finished() for t in stored(tmp_path).trials] == [True] * len(records)
