"""TrialSpec: out and back through MLflow's strings and Optuna's flat view, and a name that means the network."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from resnet import Downsample, NetSpec, Shortcut, StrideOn, Unit, Version
from search.errors import InputError
from search.spec import Crop, Schedule, TrainSpec, TrialSpec

ROOT = Path(__file__).parents[2]
STEP = {Unit.BASIC: 6, Unit.BOTTLENECK: 9, Unit.SINGLE: 3}
numbers = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def nets(draw: st.DrawFn) -> NetSpec:
    unit = draw(st.sampled_from(Unit))
    return NetSpec(
        unit=unit,
        depth=draw(st.integers(1, 200)) * STEP[unit] + 2,
        version=draw(st.sampled_from(Version)),
        shortcut=draw(st.sampled_from(Shortcut)),
        shortcut_scale=draw(numbers),
        residual_scale=draw(numbers),
        gate_bias=draw(numbers),
        dropout=draw(st.floats(0, 1, exclude_max=True)),
        downsample=draw(st.sampled_from(Downsample)),
        stride_on=draw(st.sampled_from(StrideOn)),
        width=draw(st.floats(0.05, 64)),
        in_channels=draw(st.integers(1, 1000)),
        num_classes=draw(st.integers(2, 100_000)),
    )


trains = st.builds(
    TrainSpec,
    epochs=st.integers(1, 100_000),
    batch_size=st.integers(2, 65_536),
    lr=st.floats(0, 100, exclude_min=True),
    momentum=st.one_of(st.just(0.0), st.just(-0.0), st.floats(0, 1, exclude_max=True)),
    nesterov=st.booleans(),
    weight_decay=st.floats(0, 1),
    schedule=st.sampled_from(Schedule),
    warmup=st.floats(0, 1, exclude_max=True),
    label_smoothing=st.floats(0, 1, exclude_max=True),
    warmup_steps=st.integers(0, 1000),
    crop=st.sampled_from(Crop),
    crop_padding=st.integers(0, 64),
    cutout=st.integers(0, 16),
    mixup=st.floats(0, 2),
    ema=st.floats(0, 1, exclude_max=True),
    flip=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
specs = st.builds(TrialSpec, net=nets(), train=trains)


@settings(deadline=None)
@given(specs)
def test_out_and_back(spec: TrialSpec) -> None:
    strings = spec.mlflow_params()
    assert all(isinstance(value, str) for value in strings.values())
    back = TrialSpec.from_flat({path: value for path, value in strings.items() if value != "n/a"})
    assert back == spec
    assert TrialSpec.from_flat(spec.flat()) == spec
    assert TrialSpec.model_validate_json(spec.model_dump_json()) == spec
    assert TrialSpec.from_flat(spec.flat()).digest == spec.digest == back.digest


@settings(deadline=None)
@given(specs)
def test_every_parameter_is_shown_and_what_has_no_effect_is_not_applicable(spec: TrialSpec) -> None:
    strings = spec.mlflow_params()
    assert list(strings) == [f"net.{f}" for f in NetSpec.model_fields] + [f"train.{f}" for f in TrainSpec.model_fields]
    absent = {path for path, value in strings.items() if value == "n/a"}
    assert absent == strings.keys() - spec.flat().keys()
    assert ("net.dropout" in absent) == (spec.net.shortcut is not Shortcut.DROPOUT)
    assert ("net.stride_on" in absent) == (spec.net.unit is not Unit.BOTTLENECK)
    assert ("train.nesterov" in absent) == (spec.train.momentum == 0)


@pytest.mark.parametrize(
    ("fields", "without_effect"),
    [
        ({}, {"net.dropout": 0.1}),
        ({}, {"net.gate_bias": 1.0, "net.shortcut_scale": 0.1, "net.stride_on": "conv3x3"}),
        ({"net.shortcut": "none"}, {"net.downsample": "projection"}),
        ({"train.momentum": 0}, {"train.nesterov": False}),
        ({"train.momentum": "0.00"}, {"train.nesterov": False}),
    ],
)
def test_equal_networks_are_equal(fields: dict[str, object], without_effect: dict[str, object]) -> None:
    one, other = TrialSpec.from_flat(fields), TrialSpec.from_flat(fields | without_effect)
    assert one == other
    assert one.digest == other.digest
    assert one.mlflow_params() == other.mlflow_params()


def test_different_networks_differ() -> None:
    changes = {"net.depth": 14, "net.version": "v2", "train.lr": 0.2, "train.seed": 1, "train.flip": False}
    digests = {TrialSpec.from_flat({path: value}).digest for path, value in changes.items()}
    assert len(digests | {TrialSpec().digest}) == len(changes) + 1


def test_digest_is_stable_across_processes() -> None:
    code = "from search.spec import TrialSpec; print(TrialSpec.from_flat({'net.depth': 32, 'train.lr': 0.05}).digest)"
    digests = {
        subprocess.check_output(
            [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, text=True
        ).strip()
        for seed in ("1", "2")
    }
    assert digests == {TrialSpec.from_flat({"train.lr": 0.05, "net.depth": 32}).digest}
    assert len(digests.pop()) == 12


def test_frozen_and_closed() -> None:
    spec = TrialSpec()
    with pytest.raises(ValidationError, match="frozen"):
        spec.train = TrainSpec(lr=0.2)


WRONG = [
    ({"train": {"learning_rate": 0.1}}, "train.learning_rate is not a field; did you mean 'train.lr'?"),
    ({"train": {"lr": "big"}}, "train.lr = 'big' is no number; write one, such as 0.1"),
    ({"net": {"depth": 57}}, "net depth 57 is not 6n+2 for unit=basic; the nearest valid depths are 56 and 62"),
    ({"nets": {}}, "nets is not a field; "),
]


@pytest.mark.parametrize(("given", "sentence"), WRONG)
def test_a_wrong_trial_is_refused_in_one_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        TrialSpec(**given)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


OUT_OF_RANGE = {"lr": 0, "momentum": 1, "epochs": 0, "batch_size": 1, "seed": -1, "warmup": 1, "weight_decay": -1e-9}
OUT_OF_RANGE |= {"schedule": "linear", "crop_padding": 2.5, "label_smoothing": 1}


@pytest.mark.parametrize(("name", "value"), [*OUT_OF_RANGE.items(), ("lr", float("nan")), ("lr", 101)])
def test_training_out_of_range(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        TrainSpec.model_validate({name: value})


def test_defaults_follow_from_what_is_given() -> None:
    deep = {"net.family": "imagenet", "net.depth": 101, "train.lr": 0.3}
    names = ("net.unit", "net.downsample", "net.num_classes", "train.momentum")
    assert [TrialSpec.default(name, deep) for name in names] == ["bottleneck", "projection", 1000, 0.9]
    assert TrialSpec.default("net.unit", {"net.family": "imagenet"}) == "basic", "ResNet-18"
    assert TrialSpec.default("net.unit", {"net.depth": "deep"}) == "basic", "what is wrong is told by from_flat"
    assert TrialSpec.before("net.unit") == ("net.family", "net.depth")
    assert TrialSpec.before("train.momentum") == ()
    assert TrialSpec.before("train.warmup")[0] == "train.epochs"
    assert TrialSpec.default("train.warmup", {"train.schedule": "one_cycle", "net.depth": 8}) == 0.3
