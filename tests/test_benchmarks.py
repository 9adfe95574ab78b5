"""The benchmarks' own arithmetic, against scipy's and torch's, sums by hand and the system's own figures."""

import itertools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import report
from benchmarks.answers import known_truth
from benchmarks.service import cpu_seconds, overhead
from benchmarks.service.cpu_seconds import Process, Usage
from benchmarks.service.overhead import Trained
from benchmarks.service.server_trouble import timed
from benchmarks.trial import ceilings, packing, same_statistics, speed
from benchmarks.trial.loops import Ours, Reference, Span, span, subset, trial
from benchmarks.trial.side_by_side import Place, Team, Turn, all_cores, common_rate, in_turns, team
from resnet import NetSpec, build
from resnet.costs import Cost, cost
from tests.support.journal import Reported


def test_quartiles_are_numpys() -> None:
    values = list(np.random.default_rng(0).normal(size=11))
    np.testing.assert_allclose(report.quartiles(values), np.percentile(values, [25, 50, 75]))
    assert report.quartiles([3.0]) == (3.0, 3.0, 3.0)
    assert report.spread([1, 2, 3, 4, 1005], 1) == "3.0 (2.0 to 4.0)"


def test_the_rate_of_processes_counts_their_common_time_only() -> None:
    one = [Span(0, 10, 100, {})]
    two = [Span(2, 6, 40, {}), Span(7, 15, 80, {})]
    # from 2 to 10: 80 images of the first, 40 and 3/8 of 80 of the second
    assert common_rate([one, two]) == pytest.approx((80 + 40 + 30) / 8)
    assert common_rate([one]) == pytest.approx(10)
    with pytest.raises(ValueError, match="no time in common"):
        common_rate([one, [Span(11, 12, 1, {})]])


def test_an_epoch_ends_before_its_validation() -> None:
    found = span({"cost/seconds": 5.0, "cost/images_per_s": 64.0}, n=300, batch=128)
    assert found.images == 256
    assert found.ended - found.began == pytest.approx(256 / 64)


def test_what_an_epoch_took_beside_training() -> None:
    """Two trials at once; the first epoch of each has none before it."""
    ends = [(0, 10.0, 3.0), (1, 11.0, 3.0), (0, 13.5, 3.25), (1, 14.0, 2.0), (0, 17.0, 3.5)]
    periods, beyond = timed([Reported(n, None, 1, int(t * 1000), {"cost/seconds": c}) for n, t, c in ends])
    assert periods == [[3.5, 3.5], [3.0]]
    assert beyond == (0.25, 0.0, 1.0)


@dataclass(frozen=True)
class Told:
    """Epochs of one second without work, until there is a file; their images say what the process was given."""

    over: Path

    def __call__(self) -> Iterator[Span]:
        images = 100 * torch.get_num_threads() + len(all_cores())
        for k in itertools.count():
            if self.over.exists():
                raise RuntimeError("this process ends on purpose")
            yield Span(k, k + 1, images, {})


def test_a_team_runs_in_its_places_and_says_when_a_process_dies(tmp_path: Path) -> None:
    over, core = tmp_path / "over", all_cores()[:1]
    with team([(Told(over), Place(3, frozenset(core))), (Told(tmp_path / "never"), Place(1))]) as both:
        first = both.turn()
        assert first.images_per_s == pytest.approx((300 + len(core)) + (100 + len(all_cores())))
        over.touch()
        with pytest.raises(EOFError):
            both.turn()


def test_turns_alternate_and_the_first_does_not_count() -> None:
    told: list[str] = []

    class Counted(Team):
        def __init__(self, name: str) -> None:
            self.name, self.turns = name, 0

        def turn(self) -> Turn:
            self.turns += 1
            told.append(self.name)
            return Turn(self.turns, 0)

    found = in_turns([Counted("a"), Counted("b"), Counted("c")], turns=2, told=lambda _: None)
    assert "".join(told) == "cba" + "abc" + "cba"
    assert [[turn.images_per_s for turn in turns] for turns in found] == [[2, 3]] * 3


def test_flops_of_training_are_torchs() -> None:
    spec = NetSpec(depth=8)
    with torch.device("meta"):
        net, images = build(spec), torch.empty(2, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        net(images).sum().backward()
    first = 2 * 32 * 32 * 16 * 27  # of the first convolution nobody asks for the gradient of the images
    assert ceilings.training_flops(cost(spec)) == counter.get_total_flops() / 2 + first


def test_the_floor_is_the_larger_of_both() -> None:
    one = Cost(params=0, macs=1000, activation_bytes=400)
    assert ceilings.floor_seconds(one, 10, flops=6e4, bandwidth=1e9) == (pytest.approx(1.0), "arithmetic")
    assert ceilings.floor_seconds(one, 10, flops=6e9, bandwidth=1e4) == (pytest.approx(1.0), "memory")


def test_deeper_networks_take_fewer_steps() -> None:
    # 1512.03385: ResNet-20 and -56 have 40.8 and 125.7 million multiply-accumulates
    assert speed.steps_of_turn(30, 56) == round(30 * 40.8 / 125.7)
    assert speed.steps_of_turn(8, 20) == 8
    assert speed.steps_of_turn(4, 1202) == 2


def test_share_of_sgemm() -> None:
    net = NetSpec(depth=20)
    turns = [Turn(100.0, 5e10), Turn(100.0, 0.0)]
    assert speed.of_sgemm(turns, net, 32) == [pytest.approx(6 * 40_551_040 * 100 / 5e10)]


def test_trials_share_the_cores() -> None:
    assert packing.places(2, [4, 5, 6, 7, 8]) == [Place(2, frozenset({4, 5})), Place(2, frozenset({6, 7}))]
    assert packing.places(1, [0, 1]) == [Place(2, frozenset({0, 1}))]
    assert packing.places(3, [0, 1]) == [Place(1)] * 3


def test_power_is_the_textbooks_and_that_of_simulated_trainings() -> None:
    # Cohen, Statistical Power Analysis, table 2.4.1: a two-sided test at 5 % with power 80 %
    assert same_statistics.detectable(64, 64) == pytest.approx(0.5, abs=0.005)
    assert same_statistics.detectable(26, 26) == pytest.approx(0.8, abs=0.01)
    rng, effect = np.random.default_rng(0), same_statistics.detectable(5, 8)
    _, p = stats.ttest_ind(rng.normal(effect, size=(20_000, 5)), rng.normal(size=(20_000, 8)), axis=1)
    assert np.mean(np.asarray(p) < 0.05) == pytest.approx(0.8, abs=0.01)


def test_equality_is_shown_within_the_margin_and_not_without() -> None:
    theirs = [9.0, 10.0, 11.0, 10.0, 10.0, 10.0]
    same = same_statistics.compare([v + 0.1 for v in theirs], theirs, margin=0.2)
    # By hand: deviation sqrt(0.4), standard error sqrt(2 * 0.4 / 6), 10 degrees of freedom, nearest bound 2 - 0.1
    error = (2 * 0.4 / 6) ** 0.5
    assert same.deviation == pytest.approx(0.4**0.5)
    assert same.difference == pytest.approx(0.1)
    assert same.equivalence == pytest.approx(stats.t.sf(1.9 / error, 10))
    assert same.welch == pytest.approx(2 * stats.t.sf(0.1 / error, 10))
    for shift in (2.5, -2.5):
        other = same_statistics.compare([v + shift for v in theirs], theirs, margin=0.2)
        assert other.equivalence > 0.5
        assert max(other.welch, other.mann_whitney) < 0.01


def test_a_share_beyond_its_bound_is_bold() -> None:
    def of(hits: int) -> list[bool]:
        return [True] * hits + [False] * (10_000 - hits)

    # The standard error of 95 % of 10,000 is sqrt(0.95 * 0.05 / 10,000), 0.218 points
    assert [known_truth.share(of(hits), least=0.95) for hits in (9_435, 9_434, 9_900)] == ["94.3", "**94.3**", "99.0"]
    assert [known_truth.share(of(hits), most=0.05) for hits in (565, 566, 0)] == ["5.7", "**5.7**", "0.0"]
    assert known_truth.share(of(10_000)) == "100.0"


def test_a_trial_lasts_as_long_as_asked() -> None:
    assert overhead.size(640, 10, 45_000) == (1280, 5)
    images, epochs = overhead.size(100_000, 10, 45_000)
    assert epochs == 23
    assert images * epochs == pytest.approx(1_000_000, rel=0.01)
    assert overhead.size(1.0, 1.0, 45_000) == (128, 5)


def test_the_workers_time_is_accounted_for() -> None:
    # one worker from 0 to 10 and 10.5 to 21, another from 1 to 12 and 12.25 to 20
    both = [Trained(0, 10, 9.5), Trained(1, 12, 11), Trained(10.5, 21, 10), Trained(12.25, 20, 7.5)]
    found = overhead.breakdown(both, workers=2)
    assert (found.workers, found.span, found.training) == (2, 21, 38)
    assert (found.late, found.within, found.between, found.idle_at_end) == (1, 1.25, (0.5, 0.25), 1)
    assert found.beyond == pytest.approx(42 / 38 - 1)


def test_a_worker_that_comes_late_or_never_is_late() -> None:
    # one worker from 0 to 4, 5 to 9 and 9 to 13, another from 6 to 10, a third never
    trained = [Trained(0, 4, 3.5), Trained(5, 9, 4), Trained(6, 10, 4), Trained(9, 13, 3.5)]
    found = overhead.breakdown(trained, workers=3)
    assert (found.workers, found.span, found.training) == (3, 13, 15)
    assert (found.late, found.within, found.between, found.idle_at_end) == (6 + 13, 1, (1, 0), 3)
    assert found.training + found.late + found.within + sum(found.between) + found.idle_at_end == 3 * 13
    assert overhead.breakdown(trained, workers=1).workers == 2  # more than expected trained at once


def test_trials_are_read_from_the_record() -> None:
    def epoch(number: int, ended: int, took: float) -> Reported:
        return Reported(number, None, 1, 1000 * ended, {"cost/seconds": took})

    assert overhead.trials([epoch(1, 9, 2), epoch(0, 8, 3), epoch(1, 12, 2.5)]) == [
        Trained(5, 8, 3),
        Trained(7, 12, 4.5),
    ]


@pytest.mark.skipif(not cpu_seconds.PROC.exists(), reason="reads Linux' /proc")
def test_cpu_seconds_are_the_systems() -> None:
    spent = os.times()
    # a session of its own, so that its group is not its parent
    pipe = subprocess.PIPE
    with subprocess.Popen(["cat"], stdin=pipe, stdout=pipe, start_new_session=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"it is cat that runs now, no longer a copy of this process\n")
        child.stdin.flush()
        child.stdout.readline()
        found = cpu_seconds.processes()
    assert found[os.getpid()].seconds == pytest.approx(spent.user + spent.system, abs=0.5)
    assert (found[child.pid].parent, found[child.pid].command) == (os.getpid(), "cat ")


def test_cpu_seconds_by_role() -> None:
    usage, raylet = Usage(root=2), Process(2, 3, "raylet")
    usage.see({1: Process(0, 50, "shell"), 2: Process(1, 5, "run"), 3: raylet, 4: Process(3, 1, "ray::IDLE")})
    usage.see({2: Process(1, 6, "run"), 3: raylet, 4: Process(3, 20, "ray::ResourceTrainable.train")})
    usage.see(
        {2: Process(1, 7, "run"), 4: Process(3, 21, "ray::IDLE"), 9: Process(1, 9, "ray::ResourceTrainable.train")}
    )
    assert usage.by_role() == {"driver": 7, "workers": 20, "others": 3}
    usage.see({2: Process(1, 7, "run"), 3: raylet, 4: Process(3, 21, "ray::IDLE"), 5: Process(3, 0.5, "ray::IDLE")})
    assert usage.by_role() == {"driver": 7, "workers": 21, "others": 3.5}


def test_both_loops_train_the_same_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8) for n in (300, 4))
    np.savez(tmp_path / "noise.npz", x_train=train, x_test=test, y_train=np.arange(300) % 2, y_test=np.arange(4) % 2)
    prepared = subset(f"npz:{tmp_path / 'noise.npz'}", steps=2)
    assert (prepared.info.n_train, prepared.info.n_validation) == (256, 2)
    spec = trial(prepared.info, depth=8, steps=3)
    assert spec.train.epochs == 2
    for loop in (Ours(spec, prepared), Reference(spec, prepared, workers=0)):
        epochs = list(loop())
        assert [epoch.images for epoch in epochs] == [256, 256]
        assert epochs[0].ended <= epochs[1].began
