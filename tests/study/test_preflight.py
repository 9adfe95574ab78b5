"""What is told of a study's networks before anything is trained, against costs counted one by one."""

import pytest

from resnet import NetSpec, cost
from search.errors import InputError
from search.spec import Space, StudySpec
from search.study import preflight, within

IMAGE = (8, 8)


def study(space: dict[str, object], **more: object) -> tuple[StudySpec, Space]:
    spec = StudySpec.model_validate({"name": "mine", "data": "digits", "space": space, **more})
    return spec, spec.make_space((8, 8, 1), 10)


def params(depth: int, shortcut: str) -> int:
    return cost(NetSpec(depth=depth, shortcut=shortcut, in_channels=1), IMAGE).params


def test_networks_within_the_limits_are_counted_one_by_one() -> None:
    counts = [params(depth, shortcut) for depth in (8, 14, 20) for shortcut in ("identity", "conv1x1")]
    space = {"net.depth": [8, 14, 20], "net.shortcut": ["identity", "conv1x1"], "train.lr": [0.1, 0.2]}
    for limit in sorted(counts)[::2]:
        able = sum(count <= limit for count in counts)
        assert within(*study(space, limits={"params": limit}), IMAGE) == (able, 6)


def test_many_networks_are_not_counted() -> None:
    space = {"net.depth": {"low": 8, "high": 8 + 6 * 150, "step": 6}, "net.shortcut": ["identity", "conv1x1"]}
    assert within(*study(space, limits={"params": 10**6}), IMAGE) is None
    scale = {"net.residual_scale": {"low": 0.1, "high": 0.5, "when": {"net.shortcut": "constant_scaling"}}}
    assert within(*study(scale, net={"shortcut": "constant_scaling"}), IMAGE) is None


def test_the_smallest_batch_decides_about_memory() -> None:
    one = cost(NetSpec(depth=8, in_channels=1), IMAGE).activation_bytes
    space = {"net.depth": [8, 14], "train.batch_size": [64, 16, 32]}
    spec, made = study(space, limits={"activation_memory": 16 * one})
    preflight.check(spec, made, IMAGE)
    spec, made = study(space, limits={"activation_memory": 16 * one - 1})
    with pytest.raises(InputError, match=rf"activation_memory = {16 * one - 1:,} is below .*\({16 * one:,}\)"):
        preflight.check(spec, made, IMAGE)
    spec, made = study({"net.depth": [8]}, train={"batch_size": 4}, limits={"activation_memory": 4 * one})
    preflight.check(spec, made, IMAGE)


def test_limits_that_only_together_leave_nothing() -> None:
    """Halved at each of 64 blocks the gradient is lost; gates that stand open keep it, and have more parameters."""
    few, many = (params(386, shortcut) for shortcut in ("constant_scaling", "exclusive_gate"))
    assert few < many
    space: dict[str, object] = {"net.shortcut": ["constant_scaling", "exclusive_gate"], "net.gate_bias": [-6]}
    for limits in ({"params": few}, {"signal": True}):
        preflight.check(*study(space, net={"depth": 386}, limits=limits), IMAGE)
    with pytest.raises(InputError, match="leave no network of the space"):
        preflight.check(*study(space, net={"depth": 386}, limits={"params": few, "signal": True}), IMAGE)
