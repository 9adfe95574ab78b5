"""`start: {study: NAME, best: N}`: what of a former study's trials a new one begins with."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from search.errors import InputError
from search.optimize import best_of_former
from search.records import TrialRecord, Trials, TrialState
from search.spec import Former, LimitSpec, TrialSpec, appraise
from search.spec.space import make

OF_DATA: dict[str, Any] = {"net.in_channels": 1, "net.num_classes": 10, "net.image_size": 8}
SPACE: dict[str, Any] = {
    "net.depth": [8, 14, 20],
    "net.version": ["v1", "v2"],
    "train.lr": {"low": 0.01, "high": 0.5, "log": True},
}


def trial(number: int, error: float, state: TrialState = TrialState.COMPLETE, **chosen: Any) -> TrialRecord:
    flat = {path.replace("__", "."): value for path, value in chosen.items()}
    params = TrialSpec.from_flat({**OF_DATA, "train.epochs": 2, **flat}).flat()
    return TrialRecord(number, state, dict(params), 2, {1: error + 10, 2: error})


TRIALS = Trials(
    [
        trial(0, 30.0, net__depth=8, train__lr=0.1),
        trial(1, 5.0, TrialState.PRUNED, net__depth=14),
        trial(2, 10.0, net__depth=20, net__version="v2", train__lr=0.3),
        trial(3, 20.0, net__depth=14, train__lr=0.02),
        replace(trial(4, 1.0), state=TrialState.FAILED),
    ]
)


def begun(
    best: int = 5,
    space: Mapping[str, Any] = SPACE,
    fixed: Mapping[str, Any] = {},
    limits: LimitSpec = LimitSpec(),  # noqa: B008
    trials: Trials = TRIALS,
) -> tuple[list[tuple[Any, ...]], str]:
    """Depth, version, learning rate and epochs of each start, and the sentence."""
    made = make(space, {**OF_DATA, **fixed})
    found = best_of_former(Former(study="old", best=best), trials, made, lambda spec: appraise(spec, (8, 8), limits))
    paths = ("net.depth", "net.version", "train.lr", "train.epochs")
    return [tuple(made.specify(start).flat()[path] for path in paths) for start in found.starts], str(found)


def test_the_best_complete_trials_with_the_training_of_the_new_study() -> None:
    starts, told = begun(best=2, fixed={"train.epochs": 40})
    assert starts == [(20, "v2", 0.3, 40), (14, "v1", 0.02, 40)]
    assert told == "2 configurations of study 'old', its best, tried first"
    assert [depth for depth, *_ in begun()[0]] == [20, 14, 8], "all that there are"


@pytest.mark.parametrize(
    ("changes", "depths"),
    [
        ({"space": SPACE | {"net.depth": [8, 14]}}, [14, 8]),
        ({"space": SPACE | {"train.lr": {"low": 0.01, "high": 0.2}}}, [14, 8]),
        # depth 20 has 6n + 2 layers with n = 3 and 0.27 M parameters (arXiv:1512.03385, Table 6); 8 and 14 have fewer
        ({"limits": LimitSpec(params=250_000)}, [14, 8]),
    ],
)
def test_what_the_new_space_does_not_hold_is_left_out_and_told(changes: dict[str, Any], depths: list[int]) -> None:
    starts, told = begun(best=2, **changes)
    assert [depth for depth, *_ in starts] == depths
    assert told.endswith("; 1 better one left out, beyond the space or its limits")


def test_what_had_no_effect_there_is_at_its_default() -> None:
    """Without momentum there is no Nesterov's; its default is true. `crop_padding`, 4 by default, was not searched."""
    space = make({"train.nesterov": [False, True], "train.crop_padding": [2, 4]}, OF_DATA)
    without = Trials([trial(0, 9.0, train__momentum=0.0)])
    found = best_of_former(Former(study="old"), without, space, lambda spec: appraise(spec, (8, 8), LimitSpec()))
    assert found.starts == ({**OF_DATA, "train.nesterov": True, "train.crop_padding": 4},)


def test_configurations_that_become_the_same_count_once() -> None:
    starts, _ = begun(best=2, space={"net.version": ["v1", "v2"]}, fixed={"net.depth": 8, "train.lr": 0.1})
    assert starts == [(8, "v2", 0.1, 12), (8, "v1", 0.1, 12)]


def test_a_study_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"study 'old' has no complete trial; run it to its end"):
        begun(trials=Trials(TRIALS[1:2]))
    with pytest.raises(
        InputError, match=r"has 3 complete trials, and none within this space and its limits; widen them"
    ):
        begun(space={"net.depth": [26]})
