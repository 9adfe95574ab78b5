"""Training on a stand-in for a GPU (stand_in/card.h): torch's own CUDA build, over a runtime that computes nothing.

Shown is that each step is captured as a CUDA graph and asks nothing that a capture forbids, what a capture that fails
leaves behind, and what stays of the card's memory. About a minute and a half of one core, of which torch's compiler
takes twenty seconds.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.card.cases import CASES, STEPS

Card = Callable[..., dict[str, Any]]
WARM = 3  # steps, and evaluations, before the capture
FAULTS = ("item", "nonzero", "mask", "cpu", "synchronize", "event")
FAILURES = ("forward", "backward", "optimiser", "dropout", "dropped branches")
REASONS = {"cpu": "Cannot copy between CPU and CUDA tensors", "backward": "cuDNN error"}


@pytest.fixture(scope="session")
def steps(card: Card) -> dict[str, Any]:
    return card("cases", "faults", "longer", "nodes")


def assert_replayed(found: dict[str, Any], launched: int = STEPS - WARM, captured: int = 1) -> None:
    assert (found["captured"], found["launched"], found["forbidden"], found["told"]) == (captured, launched, [], [])


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_captured_and_asks_nothing_that_is_forbidden(steps: dict[str, Any], case: str) -> None:
    assert_replayed(steps["cases"][case])


@pytest.mark.parametrize("fault", FAULTS)
def test_the_card_knows_what_a_capture_forbids(steps: dict[str, Any], fault: str) -> None:
    """All but the copy to the host, which torch itself refuses."""
    found = steps["faults"][fault]
    assert found["launched"] == 0
    assert bool(found["forbidden"]) == (fault != "cpu")


@pytest.mark.parametrize("fault", [*FAULTS, *FAILURES])
def test_a_capture_that_fails_leaves_the_trial_eager_and_the_process_usable(steps: dict[str, Any], fault: str) -> None:
    found = steps["faults"]
    assert (found[fault]["epochs"], found[fault]["launched"]) == ([1], 0)
    (told,) = found[fault]["told"]
    assert "stays eager" in told
    assert REASONS.get(fault, "CUDA error: operation not permitted when stream is capturing") in told
    assert_replayed(found[f"{fault}, the next"])
    if fault in FAILURES:
        assert_replayed(found[f"{fault}, dropout after it"])


def test_the_capture_holds_for_all_epochs_and_is_made_anew_when_freezing_ends(steps: dict[str, Any]) -> None:
    found = steps["longer"]
    for name in ("validated", "smaller"):  # step and evaluation
        assert_replayed(found[name], 5 * STEPS - WARM + 5 - WARM, captured=2)
    assert (found["not captured"]["epochs"], found["not captured"]["launched"]) == ([1, 2, 3, 4, 5], 5 * STEPS - WARM)
    (warning,) = found["not captured"]["told"]
    assert warning.startswith("the evaluation cannot be captured as a CUDA graph and stays eager (")
    assert_replayed(found["frozen"])
    for thawed in (found["thawed"], found["thawed, averaged"]):
        assert_replayed(thawed, 3 * STEPS - 2 * WARM, captured=2)
        assert thawed["nodes"] > 1.5 * found["frozen"]["nodes"], "the backward pass stays out while the body is frozen"


@pytest.mark.parametrize("case", ["continued", "continued, averaged"])
def test_a_trial_that_continues_is_captured(steps: dict[str, Any], case: str) -> None:
    assert steps["longer"][case]["epochs"] == [2]
    assert_replayed(steps["longer"][case])


@pytest.fixture(scope="session")
def branches(card: Card) -> dict[str, Any]:
    return card("branches", "parted", "groups")


@pytest.mark.parametrize("kind", ["plain", "random"])
@pytest.mark.parametrize("count", ["1", "2", "5"])
def test_steps_of_several_trainings_are_one_graph(branches: dict[str, Any], kind: str, count: str) -> None:
    """It has as many nodes as they have alone, for parting and meeting are edges; each draws its own numbers."""
    found, alone = branches["branches"][kind][count], branches["branches"][kind]["1"]
    assert_replayed(found)
    assert found["epochs"] == [1] * int(count)
    assert found["nodes"] == int(count) * alone["nodes"]
    seeds, offsets = zip(*found["drawn"], strict=True)
    assert len({*seeds}) == int(count)
    assert {*offsets} == {alone["drawn"][0][1]}
    assert (offsets[0] > 0) == (kind == "random")
    assert found["reserved"] <= alone["reserved"] + 200 * (int(count) - 1), "MiB"


def test_trainings_together_are_captured_whatever_they_are(branches: dict[str, Any]) -> None:
    found = branches["branches"]
    assert_replayed(found["streamed"])
    assert_replayed(found["frozen for different times"], 3 * STEPS - 2 * WARM, captured=2)
    assert found["one waits"]["epochs"] == [1, 2, 2]
    assert_replayed(found["one waits"], 2 * STEPS - 2 * WARM, captured=2)


def test_trainings_together_of_which_the_capture_fails_stay_eager(branches: dict[str, Any]) -> None:
    found = branches["branches"]
    assert (found["failing"]["epochs"], found["failing"]["launched"]) == ([1, 1, 1], 0)
    (told,) = found["failing"]["told"]
    assert "stays eager" in told
    assert_replayed(found["after it"])
    assert found["failing"]["drawn"] == found["after it"]["drawn"], "as many numbers as in a captured step"


def test_the_card_knows_streams_that_do_not_meet_again(branches: dict[str, Any]) -> None:
    assert "unjoined work" in branches["parted"]


def test_trainings_together_leave_no_memory_behind(branches: dict[str, Any]) -> None:
    """A workspace of cuBLAS stays for each stream; there are no more streams than the largest group has trainings."""
    smaller, *others = branches["groups"]
    assert {*others} == {others[0]}
    assert smaller <= others[0]


def test_a_step_has_no_more_nodes_than_it_had(steps: dict[str, Any]) -> None:
    """The figures of ResNet-20, -56, -110 and of the bottleneck ResNet-164 may only fall."""
    most = {"20": 311, "56": 779, "110": 1481, "164": 2125}  # of torch 2.14
    assert {name: number for name, number in steps["nodes"].items() if number > most[name]} == {}
    assert steps["nodes"].keys() == most.keys()


def test_trials_of_a_worker_leave_no_memory_behind(card: Card) -> None:
    first, *others = card("worker")["worker"]
    assert all(each["report"]["done"] and each["launched"] > 0 for each in (first, *others))
    assert {each["taken"] for each in others} == {first["taken"]}
    assert {each["reserved"] for each in others} == {first["reserved"]}


def test_trials_whose_capture_fails_leave_no_memory_behind(card: Card) -> None:
    """No more than the first: cuBLAS has its workspace then."""
    first, *others = card("failing")["failing"]
    assert max(others) <= first


def test_a_trial_too_large_for_the_card_is_infeasible_and_leaves_its_memory(card: Card) -> None:
    first, large, small = card("full")["full"]
    assert (large["report"]["failure"], large["report"]["done"]) == ("infeasible", True)
    assert large["report"]["reason"].startswith("out of memory: CUDA out of memory. Tried to allocate 72.00 MiB")
    assert large["taken"] < first["taken"] + 4 * 2**20, "of the 64 MiB that it was given"
    assert (small["report"]["done"], small["launched"], small["taken"]) == (True, first["launched"], first["taken"])


@pytest.mark.long
def test_trainings_that_do_not_fit_together_go_on_one_by_one(card: Card) -> None:
    *reports, told = card("crowded")["crowded"]
    assert [[epoch["number"] for epoch in report["epochs"]] for report in reports] == [[], [0], [1], [2]]
    assert [report["done"] for report in reports] == [False, False, False, True]
    (line,) = told["told"]
    assert line.startswith("trainings go on one by one, for together they failed (CUDA out of memory.")


def test_images_stay_on_the_card_where_they_fit_into_what_is_left_of_the_share(card: Card) -> None:
    """30 MiB: within 60 % of 64 MiB, but neither of the 32 that are left of them nor of 40 that are free."""
    assert card("share")["share"] == [True, False, True, False]


@pytest.mark.slow
@pytest.mark.long
def test_a_compiled_network_is_captured(card: Card) -> None:
    found = card("compiled")["compiled"]
    assert_replayed(found)
    assert found["kernels"] > 10
    assert found["deterministic"] == ["True"], "none is chosen by timing that adds in another order"
