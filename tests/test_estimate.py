"""What a study will cost: the arithmetic by hand, the speeds from networks that are really timed."""

from collections.abc import Iterator

import pytest
import torch

from resnet.spec import NetSpec
from search import data
from search.dry_run import Speeds, Timed, of_search, rough, seconds_of_search, timed, wall_time
from search.optimize import make_scheduler
from search.spec import DataSpec, find, load

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("scheduler", "epochs"), [("none", 9 * 27), ("asha", 9 * (3 + 6 / 3 + 18 / 9))])
def test_epochs_that_a_scheduler_leaves_at_the_fewest(scheduler: str, epochs: float) -> None:
    """Rungs after 3 and 9 epochs."""
    changes = {"search.trials": 9, "search.first_rung": 3, "search.reduction": 3, "train.epochs": 27}
    spec = load(find("digits"), [*changes.items(), ("search.scheduler", scheduler)])
    assert make_scheduler(spec.search, spec.epochs).fewest_epochs(spec.search.trials) == pytest.approx(epochs)


def test_hours_follow_from_speeds() -> None:
    """1293 images to train on and 145 to validate by: 40 epochs are 53,653 of them, two cores work on each."""
    changes = {"search.trials": 10, "search.scheduler": "none", "train.epochs": 4, "resources.cpus_per_trial": 2}
    spec = load(find("digits"), list(changes.items()))
    info, small, large = data.check(DataSpec()), Timed(360.0, None), Timed(0.36, 56)
    assert of_search(spec, info, Speeds(small, large, 2, None)) == (
        "estimate: 0.083 to 83 core-hours for 40 epochs, if no trial is stopped (measured now on 2 cores of this "
        "machine: the smallest network trains at 360 images/s, the largest at 0 (by MACs, from images of 56 pixels); "
        "another device has another speed)"
    )
    assert "estimate: 0.041 to 41 GPU-hours" in of_search(spec, info, Speeds(small, large, 2, "NVIDIA H100"))
    stopped = load(find("digits"), [("search.trials", 9), ("train.epochs", 27), ("search.first_rung", 3)])
    assert "-hours where asha stops all that it can" in of_search(stopped, info, Speeds(small, large, 2, None))


def test_wall_time_counts_the_finals_and_what_runs_at_once() -> None:
    """1293 images to train on, 145 to validate by; 2 finalists of 4 epochs on both, with 2 seeds or 3."""
    changes = {"search.trials": 10, "search.scheduler": "none", "train.epochs": 4, "resources.cpus_per_trial": 0.5}
    finals = {"finals.top": 2, "finals.seeds": 2, "finals.max_seeds": 3, "search.max_concurrent": 2}
    spec = load(find("digits"), [*changes.items(), *finals.items()])
    info, speeds = data.check(DataSpec()), Speeds(Timed(1000.0, None), Timed(10.0, None), 0.5, None)
    search = 40 * (1293 + 145 / 3)
    least, most = (search + 4 * 4 * 1438) / 1000, (search + 6 * 4 * 1438) / 10
    assert seconds_of_search(spec, info, speeds) == pytest.approx([least, most])
    assert wall_time(spec, [least, most]) == "time on this machine: about a minute to 1.2 hours, 2 at once"
    assert [rough(seconds) for seconds in (59, 60, 5400, 86400 * 12.3)] == [
        "a minute",
        "1 minute",
        "1.5 hours",
        "12 days",
    ]


def test_larger_networks_are_slower_and_none_takes_long() -> None:
    small, large = (timed(NetSpec(depth=depth, in_channels=1), (8, 8, 1), 32, CPU) for depth in (8, 56))
    assert small.images_per_s > large.images_per_s > 0
    assert small.scaled_from is large.scaled_from is None
    whole = timed(NetSpec(family="imagenet", depth=18, num_classes=10), (128, 128, 3), 256, CPU)
    assert whole.scaled_from == 32
    assert whole.images_per_s < large.images_per_s
