"""What Ray's autoscaler does with the shipped cluster files, and what its version 2 (Ray 2.60) does not.

Where a test of version 2 fails, Ray has learned it: see docs/decisions/0014-version-1-of-the-autoscaler.md.
"""

from pathlib import Path

import pytest

from tests.support.autoscaling import LOCAL, autoscaled, fixed, without_spot
from tests.support.hosts.waiting import left_after, wait_for
from tests.support.study_process import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.nightly]
AWS, ONPREM = ROOT / "cluster.yaml", ROOT / "search" / "cluster" / "onprem.yaml"
WORKERS = ["127.0.0.11", "127.0.0.12", "127.0.0.13"]


def test_without_spot_an_on_demand_machine_is_asked_for(tmp_path: Path) -> None:
    with autoscaled(without_spot(AWS, tmp_path / "asked"), demand=True) as cluster:
        wait_for(lambda: "g5-on-demand" in cluster.asked(), 90, "an on-demand machine")
        asked = cluster.asked()
    assert sorted(asked[:2]) == ["g5-spot", "g6-spot"]
    assert asked[2] == "g5-on-demand"


def test_version_2_goes_on_asking_for_spot_that_is_not_there(tmp_path: Path) -> None:
    """With the priorities that it has for this. A start that fails at once does not count against a kind."""
    with autoscaled(without_spot(AWS, tmp_path / "asked", spot=1), "2", demand=True) as cluster:
        wait_for(lambda: len(cluster.asked()) >= 6, 90, "six starts")
        assert len(set(cluster.asked())) == 1
        assert "spot" in cluster.asked()[0]


def test_all_machines_of_a_list_are_started() -> None:
    with autoscaled(fixed(ONPREM, WORKERS)) as cluster:
        wait_for(lambda: cluster.running() == {LOCAL, *WORKERS}, 90, "the head and all workers")


def test_version_2_leaves_out_the_last_machine_of_a_list_and_forgets_the_head() -> None:
    """It counts the head as one of the workers, and starts none while it takes the head for gone."""
    with autoscaled(fixed(ONPREM, WORKERS), "2") as cluster:
        wait_for(lambda: len(cluster.running()) == len(WORKERS) - 1, 90, "all but one")
        assert left_after(10, lambda: sorted({LOCAL, *WORKERS} - cluster.running())) == [LOCAL, WORKERS[-1]]
