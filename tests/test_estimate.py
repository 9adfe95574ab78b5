"""What a study will cost: the arithmetic by hand, the speeds from networks that are really timed."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from resnet.spec import NetSpec
from search import data
from search.dry_run import Estimate, Timed, reckoned, timed
from search.optimize import make_scheduler
from search.spec import DataSpec, find, load

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_epochs_that_a_scheduler_leaves_at_the_fewest() -> None:
    common = {"search.trials": 9, "search.first_rung": 3, "search.reduction": 3, "train.epochs": 27}

    def fewest(scheduler: str) -> float:
        spec = load(find("digits"), [*common.items(), ("search.scheduler", scheduler)])
        return make_scheduler(spec.search, spec.epochs).fewest_epochs(spec.search.trials)

    assert fewest("none") == 9 * 27
    assert fewest("asha") == pytest.approx(9 * (3 + 6 / 3 + 18 / 9))  # rungs after 3 and 9 epochs


def test_hours_follow_from_speeds() -> None:
    """1293 images to train on and 145 to validate by."""
    changes = {"search.trials": 10, "search.scheduler": "none", "train.epochs": 4, "resources.cpus_per_trial": 2}
    spec = load(find("digits"), list(changes.items()))
    speeds = Timed(3600.0, None), Timed(360.0, None)
    images = 40 * (1293 + 145 / 3)
    found = reckoned(spec, data.check(DataSpec()), speeds, None)
    assert (found.epochs, found.unit) == (40, "core")
    assert found.hours == pytest.approx((2 * images / 3600 / 3600, 2 * images / 360 / 3600)), "each on two cores"
    found = reckoned(spec, data.check(DataSpec()), speeds, "NVIDIA H100")
    assert (found.unit, found.device) == ("GPU", "NVIDIA H100")
    assert found.hours == pytest.approx((images / 3600 / 3600, images / 360 / 3600))


def test_words() -> None:
    known = Estimate("one core", "core", 288, 96.0, (0.25, 1.5), (Timed(9000, None), Timed(800, None)), "asha")
    assert str(known).startswith(
        "estimate: 0.25 to 1.5 core-hours for 288 epochs, if no trial is stopped; 0.083 to 0.5 where asha stops "
        "all that it can (measured now on one core: the smallest network trains at 9,000 images/s, the largest at 800; "
    )
    assert "stops all" not in str(replace(known, fewer=288.0, scheduler="none"))
    assert "by MACs, from images of 56 pixels" in str(replace(known, timed=(Timed(9, None), Timed(1, 56))))


def test_larger_networks_are_slower_and_none_takes_long() -> None:
    small, large = (timed(NetSpec(depth=depth, in_channels=1), (8, 8, 1), 32, CPU) for depth in (8, 56))
    assert small.images_per_s > large.images_per_s > 0
    assert small.scaled_from is large.scaled_from is None
    whole = timed(NetSpec(family="imagenet", depth=18, num_classes=10), (128, 128, 3), 256, CPU)
    assert whole.scaled_from == 32
    assert whole.images_per_s < large.images_per_s
