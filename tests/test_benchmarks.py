"""The benchmarks' own arithmetic, against scipy's and torch's, sums by hand and the system's own figures."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.answers import known_truth
from benchmarks.service import overhead
from benchmarks.service.overhead import Trained
from benchmarks.service.server_trouble import timed
from benchmarks.trial import ceilings, same_statistics
from benchmarks.trial.loops import Ours, Reference, Span, subset, trial
from benchmarks.trial.side_by_side import Place, all_cores, team
from resnet import NetSpec, build
from resnet.costs import cost
from search.training.speed import common_rate
from tests.support.journal import Reported


def test_the_rate_of_processes_counts_their_common_time_only() -> None:
    one = [Span(0, 10, 100, {})]
    two = [Span(2, 6, 40, {}), Span(7, 15, 80, {})]
    # from 2 to 10: 80 images of the first, 40 and 3/8 of 80 of the second
    assert common_rate([one, two]) == pytest.approx((80 + 40 + 30) / 8)
    assert common_rate([one]) == pytest.approx(10)
    with pytest.raises(ValueError, match="no time in common"):
        common_rate([one, [Span(11, 12, 1, {})]])


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


def test_flops_of_training_are_torchs() -> None:
    spec = NetSpec(depth=8)
    with torch.device("meta"):
        net, images = build(spec), torch.empty(2, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        net(images).sum().backward()
    first = 2 * 32 * 32 * 16 * 27  # of the first convolution nobody asks for the gradient of the images
    assert ceilings.training_flops(cost(spec)) == counter.get_total_flops() / 2 + first


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


def test_traffic_is_what_operations_read_and_write() -> None:
    """Bytes of 256 float32 each: two read and one written, the same read and written in place, one read by its sum."""
    one, other = torch.ones(256, requires_grad=True), torch.ones(256)
    with ceilings.Traffic("cpu") as traffic:
        both = one + other
        both.detach().view(16, 16).mul_(2)
        total = both.sum()
    assert traffic.bytes == 1024 * (3 + 2 + 1) + 4
    with ceilings.Traffic("cpu") as traffic:
        total.backward()
    assert traffic.bytes >= 1024
    with ceilings.Traffic("cuda") as elsewhere:
        torch.add(other, other)
    assert elsewhere.bytes == 0


def test_a_share_beyond_its_bound_is_bold() -> None:
    def of(hits: int) -> list[bool]:
        return [True] * hits + [False] * (10_000 - hits)

    # The standard error of 95 % of 10,000 is sqrt(0.95 * 0.05 / 10,000), 0.218 points
    assert [known_truth.share(of(hits), least=0.95) for hits in (9_435, 9_434, 9_900)] == ["94.3", "**94.3**", "99.0"]
    assert [known_truth.share(of(hits), most=0.05) for hits in (565, 566, 0)] == ["5.7", "**5.7**", "0.0"]
    assert known_truth.share(of(10_000)) == "100.0"


def test_the_workers_time_is_accounted_for() -> None:
    # one worker from 0 to 10 and 10.5 to 21, another from 1 to 12 and 12.25 to 20
    both = [Trained(0, 10, 9.5), Trained(1, 12, 11), Trained(10.5, 21, 10), Trained(12.25, 20, 7.5)]
    found = overhead.breakdown(both, workers=2)
    assert (found.workers, found.span, found.training) == (2, 21, 38)
    assert (found.late, found.within, found.between, found.idle_at_end) == (1, 1.25, (0.5, 0.25), 1)
    assert found.beyond == pytest.approx(42 / 38 - 1)


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
