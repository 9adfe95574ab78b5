"""Networks are timed before the first trial: what is too slow is refused, and a study says how fast its own are."""

import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from resnet import NetSpec
from search import Study
from search.activity import Activity
from search.errors import InputError
from search.machine import usable
from search.spec import LatencySpec, LimitSpec, StudySpec, TrialSpec, appraise
from search.study.latencies import Latencies, in_turns, measure, networks, time_networks
from tests.support.sample_data import grey

SHAPE = (16, 16, 1)
INFO = grey(16)


def asked(**given: Any) -> list[TrialSpec]:
    spec = StudySpec.model_validate({"name": "mine", "latency": {}, **given})
    return networks(spec, spec.make_space(SHAPE, 2), INFO)


def refusal(**given: Any) -> str:
    with pytest.raises(InputError) as refused:
        asked(**given)
    return str(refused.value)


def test_a_latency_is_the_median_of_thirty_runs_or_more() -> None:
    waits = itertools.cycle([2, 2, 20])  # ms

    def answer() -> None:
        end = time.perf_counter() + next(waits) / 1000
        while time.perf_counter() < end:
            pass

    (found,) = in_turns([answer])
    assert found.runs >= 30
    assert 2 <= found.low <= found.median < 20 <= found.high


def test_a_quick_answer_is_timed_more_often() -> None:
    (found,) = in_turns([lambda: None])
    assert found.runs == 1200


def test_networks_take_turns() -> None:
    called: list[str] = []
    in_turns([lambda: called.append("a"), lambda: called.append("b")])
    assert "".join(key for key, _ in itertools.groupby(called)) == "ababab"


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_more_work_takes_longer(runtime: Any) -> None:
    nets = [NetSpec(depth=8, width=width, in_channels=1, num_classes=2) for width in (0.25, 8)]
    small, large = time_networks([(net, SHAPE) for net in nets], LatencySpec(runtime=runtime))
    assert small.median < large.median


def test_the_caller_is_as_before() -> None:
    torch.manual_seed(7)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(7)
    time_networks([(NetSpec(in_channels=1, depth=8), SHAPE)], LatencySpec(threads=1, batch=2))
    torch.testing.assert_close(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_each_network_of_the_space_is_timed_once() -> None:
    space = {"net.depth": [8, 14], "net.version": ["v1", "v2"], "train.lr": {"low": 0.1, "high": 1.0}}
    found = asked(space=space)
    assert [(one.net.depth, one.net.version.value) for one in found] == [(8, "v1"), (8, "v2"), (14, "v1"), (14, "v2")]
    assert {one.net.num_classes for one in found} == {2}
    gates = {"net.shortcut": ["identity", "exclusive_gate"], "net.gate_bias": [-6, 0]}
    assert len(asked(space=gates, net={"depth": 8})) == 3  # a bias where there is a gate
    pairs = {"net.width": {"choices": [1, 2], "when": {"train.flip": [True]}}, "train.flip": [True, False]}
    assert [one.net.width for one in asked(space=pairs)] == [1, 2]
    stepped = asked(space={"net.width": {"low": 0.5, "high": 1.0, "step": 0.25}})
    assert [one.net.width for one in stepped] == [0.5, 0.75, 1.0]


def test_the_rows_of_compare_are_timed() -> None:
    rows = [{"name": "a", "set": {"net.depth": 8}}, {"name": "b", "set": {"net.depth": 14, "train.lr": 0.2}}]
    assert [one.net.depth for one in asked(compare=rows)] == [8, 14]


def test_nothing_is_timed_where_nothing_asks_for_it() -> None:
    assert asked(latency=None, space={"net.depth": [8, 14]}) == []
    assert StudySpec(name="mine").latency is None
    assert StudySpec(name="mine", limits={"latency_ms": 3}).latency == LatencySpec()  # pyright: ignore[reportArgumentType]
    wanted = StudySpec(name="mine", search={"objectives": ["val_error", "latency_ms"]})  # pyright: ignore[reportArgumentType]
    assert wanted.latency == LatencySpec()


def test_what_cannot_be_timed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ranged = refusal(space={"net.width": {"low": 0.5, "high": 1.0}})
    assert ranged.startswith("latency: space.net.width is a range without steps")
    assert "give choices" in ranged
    widths = [round(0.01 * k, 2) for k in range(50, 150)]
    assert "more than 300 networks" in refusal(space={"net.width": widths, "net.depth": [8, 14, 20, 26]})
    many = usable() + 1
    assert refusal(latency={"threads": many}) == (
        f"latency.threads = {many} is more than the {usable()} cores here; give at most as many"
    )
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "latency.device = 'cuda', but this machine has no GPU" in refusal(latency={"device": "cuda"})
    monkeypatch.setattr("search.export.graphs.find_spec", lambda _: None)
    assert "pip install 'resnet-search[export]'" in refusal(latency={"runtime": "onnxruntime"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"latency": {"device": "gpu"}}, "latency.device = 'gpu' is unknown"),
        ({"latency": {"threads": 0}}, "latency.threads = 0 is too small; give at least 1"),
        ({"latency": {"batch": 0}}, "latency.batch = 0 is too small; give at least 1"),
        ({"latency": {"runtime": "onnx"}}, "latency.runtime = 'onnx' is unknown; choose from onnxruntime, torch"),
        ({"latency": {"device": "cuda", "runtime": "onnxruntime"}}, "latency: onnxruntime runs on the cpu here"),
        ({"latency": {"core": 1}}, "latency.core = 1 is not a key of a study"),
        ({"limits": {"latency_ms": 0}}, "limits.latency_ms = 0 is too small; give more than 0"),
        ({"limits": {"latency_ms": "fast"}}, "limits.latency_ms = 'fast' is no number"),
        ({"limits": {"latency_ms": float("nan")}}, "limits.latency_ms = nan is no"),
        ({"limits": {"latency_ms": float("inf")}}, "limits.latency_ms = inf is no finite number"),
    ],
)
def test_a_wrong_value_is_refused_in_a_sentence(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        StudySpec(name="mine", **given)
    assert str(refused.value).startswith(said), str(refused.value)


def test_a_trial_above_the_limit_is_refused_and_counts_by_how_far() -> None:
    trials = [TrialSpec(net=NetSpec(depth=depth, in_channels=1)) for depth in (8, 14, 20)]
    stored = {
        trial.digest: {"median": ms, "low": ms, "high": ms, "runs": 30}
        for trial, ms in zip(trials, (2.0, 8.0), strict=False)
    }
    known = Latencies.of(stored, StudySpec(name="mine", limits={"latency_ms": 4}))  # pyright: ignore[reportArgumentType]
    assert known.stored == stored
    fast, slow, never = (known.appraised(t, appraise(t, SHAPE[:2], LimitSpec(macs=1))) for t in trials)
    assert (fast.latency_ms, slow.latency_ms, never.latency_ms) == (2.0, 8.0, None)
    assert fast.excess["latency_ms"] == pytest.approx(-0.6931, abs=1e-4)  # ln(2 / 4)
    assert slow.excess["latency_ms"] == pytest.approx(0.6931, abs=1e-4)
    assert "latency_ms" not in never.excess
    assert slow.reason is not None
    assert slow.reason.endswith("above the limit of 1; latency_ms 8 above the limit of 4")
    free = known.appraised(trials[1], appraise(trials[1], SHAPE[:2], LimitSpec()), limited=False)
    assert (free.latency_ms, free.reason) == (8.0, None)


def test_a_limit_below_every_network_is_refused() -> None:
    spec = StudySpec.model_validate({"name": "mine", "limits": {"latency_ms": 1e-6}, "space": {"net.depth": [8, 14]}})
    nets = networks(spec, spec.make_space(SHAPE, 2), INFO)
    with pytest.raises(InputError, match=r"latency_ms = 1e-06 is below the fastest network of the space \(\d"):
        measure(spec, nets, SHAPE, Activity())


@pytest.mark.long
def test_a_study_refuses_slow_networks_and_says_how_fast_the_others_are(tmp_path: Path) -> None:
    """Depth 218 takes some 27 times as long as depth 8: the limit lies far from both."""
    (middle,) = time_networks([(NetSpec(depth=44, in_channels=1), (8, 8, 1))], LatencySpec())
    between = middle.median
    study = {
        "name": "fast",
        "data": "digits",
        "train": {"epochs": 2},
        "space": {"net.depth": [8, 218], "train.lr": {"low": 0.05, "high": 0.2}},
        "start": [],
        "limits": {"latency_ms": between},
        "search": {"trials": 3, "objectives": ["val_error", "latency_ms"]},
        "finals": {"top": 1, "seeds": 2, "max_seeds": 2},
    }
    made = Study.create(study, output=tmp_path, set={"data.limit": 200})
    assert made.run().worked
    trials = Study.open(tmp_path / "fast").trials
    ran, refused = trials.started, trials.refused
    assert len(ran) == 3
    assert {trial.params["net.depth"] for trial in ran} == {8}
    assert {trial.params["net.depth"] for trial in refused} == {218}
    assert all(trial.exceeded == ("latency_ms",) for trial in refused)
    (ms,) = {trial.latency_ms for trial in ran}  # timed once, whatever the learning rate
    assert ms is not None
    assert ms < between
    report = json.loads((tmp_path / "fast" / "report.json").read_text())
    assert report["latency"].startswith("of 1 image on 1 core, by torch, before training: median of")
    assert {trial["latency_ms"] for trial in report["trials"]} == {ms}
    assert [one["latency_ms"] for one in report["finals"]["finalists"]] == [ms]
    assert all(row["limits"] == ["latency_ms"] for row in report["infeasible"])
    again = Study.create(
        study | {"latency": {"batch": 2}}, output=tmp_path, set={"data.limit": 200, "search.trials": 4}
    )
    with pytest.raises(InputError, match=r"latency.batch = 2, but study 'fast' .* was begun with 1"):
        again.run()
