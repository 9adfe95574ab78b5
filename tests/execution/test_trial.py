"""The worker of trials as Ray runs it, one process for many, with real limits of memory; without Ray."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch

import search.execution.worker
from search import machine, training
from search.data import prepare
from search.execution.worker import TrialWorker
from search.spec import DataSpec, TrialSpec
from search.training import device
from tests.training.test_checkpoint import limit

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and affinity as Linux has them")
ROOT = Path(__file__).parents[2]
DATA = DataSpec(name="digits", limit=300)
WORKER = """
import json, resource, sys, threading
from search.execution.worker import TrialWorker
def status(key):
    (line,) = (l for l in open("/proc/thread-self/status") if l.startswith(key + ":"))
    return line.split()[1]
configs, spare = json.loads(sys.argv[1])
worker = TrialWorker(configs[0])
for number, config in enumerate(configs):
    if number:
        worker.reset_config(config)
        worker.config = config
    if spare and number == 1:
        most = int(status("VmSize")) * 1024 + spare
        resource.setrlimit(resource.RLIMIT_AS, (most, most)); spare = 0
    told = worker.step()
    told |= {"cores": status("Cpus_allowed_list"), "data": id(worker._process._data and worker._process._data[1])}
    print(json.dumps(told), flush=True)
"""


def config(folder: Path, number: int = 0, gpus: float = 0.0, threads: int = 1, **spec: Any) -> dict[str, Any]:
    fixed = {"net.in_channels": 1, "net.num_classes": 10, "net.depth": 8, "train.epochs": 1, "train.crop_padding": 0}
    return {
        "number": number,
        "spec": TrialSpec.from_flat(fixed | spec).model_dump(mode="json"),
        "folder": str(folder / str(number)),
        "epochs_known": 0,
        "rungs": [],
        "data": DATA.model_dump(mode="json"),
        "prepared": [str(prepare(DATA).folder), prepare(DATA).info.digest],
        "weights": None,
        "others": [],
        "software": None,
        "processes": 1,
        "cpus": 1.0,
        "threads": threads,
        "compile": False,
        "gpus": gpus,
        "final": False,
    }


def told(folder: Path, configs: list[dict[str, Any]], spare: int = 0) -> list[dict[str, Any]]:
    """First report of each trial from one worker; from the second on it may take at most `spare` bytes more."""
    ran = subprocess.run(
        [sys.executable, "-c", WORKER, json.dumps([configs, spare])],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "HOME": str(folder)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of three trials in one worker: a small one, one too large for the 64 MiB that are left then, a small one.

    The large one: 216 images x 128 maps x 8 x 8 floats are 7 MB, and its first stage alone keeps seven of these.
    """
    folder = tmp_path_factory.mktemp("worker")
    large = config(folder, 1, **{"net.width": 8.0, "train.batch_size": 256})
    return told(folder, [config(folder, 0), large, config(folder, 2)], spare=64 * 2**20)


@linux
def test_a_trial_too_large_for_the_machine_is_infeasible_and_leaves_its_memory(reports: list[dict[str, Any]]) -> None:
    first, large, small = reports
    assert "failure" not in first
    assert (large["number"], large["failure"], large["done"]) == (1, "infeasible", True)
    assert large["reason"].startswith("out of memory: ")
    assert any(words in large["reason"] for words in ("alloc", "memory object", "a primitive")), large["reason"]
    assert "failure" not in small
    (epoch,) = small["epochs"]
    assert (small["number"], epoch["epoch"], epoch["last"], small["done"]) == (2, 1, True, True)


@linux
def test_a_worker_keeps_its_core_and_its_data(reports: list[dict[str, Any]]) -> None:
    assert {report["cores"] for report in reports} == {str(min(os.sched_getaffinity(0)))}
    assert len({report["data"] for report in reports}) == 1


def worker(folder: Path, epochs: Generator[dict[str, Any]] | None = None, **changes: Any) -> TrialWorker:
    """In this process, of which nothing is to be pinned."""
    made = TrialWorker.__new__(TrialWorker)
    made.config = config(folder, 7) | changes
    made._begin(made.config)
    made._epochs = epochs
    return made


@pytest.mark.parametrize("gpus", [1.0, 0.25])
def test_a_gpu_that_torch_does_not_see_fails_the_trial_in_one_sentence(
    gpus: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("torch sees a GPU")
    monkeypatch.setenv("HOME", str(tmp_path))
    threads = torch.get_num_threads()
    report = TrialWorker(config(tmp_path, gpus=gpus, threads=threads)).step()
    assert report["failure"] == "failed"
    assert report["reason"].startswith(f"InputError: resources.gpus_per_trial = {gpus:g}, but torch ")
    assert report["reason"].endswith("or set resources.gpus_per_trial=0")
    assert report["epochs"] == []


def started(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> TrialWorker:
    """In this process, on as many threads as it has; of a trial of five epochs."""
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(device, "pin", lambda threads: None)
    threads = torch.get_num_threads()
    return TrialWorker(config(folder, threads=threads, **{"train.epochs": 5, "train.batch_size": 64}) | changes)


def steps(worker: TrialWorker) -> list[dict[str, Any]]:
    """Its reports, to the last."""
    reports = [worker.step()]
    while not reports[-1]["done"]:
        reports.append(worker.step())
    return reports


def numbers(report: dict[str, Any]) -> list[int]:
    return [epoch["epoch"] for epoch in report["epochs"]]


def timeless(epochs: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [{n: v for n, v in epoch["metrics"].items() if not n.startswith("cost/")} for epoch in epochs]


def test_short_epochs_are_reported_together_up_to_a_rung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the study decides about is on the disk by then."""
    monkeypatch.setattr(search.execution.worker, "REPORT_SECONDS", 600.0)
    worker = started(tmp_path, monkeypatch, rungs=[2])
    for reported in ([1, 2], [3, 4, 5]):
        assert numbers(worker.step()) == reported
        found = training.latest(tmp_path / "0")
        assert found is not None
        assert [known["epoch"] for known in found.history] == [*range(1, reported[-1] + 1)]


@pytest.mark.parametrize("taken", ["leave", "reset_config", "cleanup"])
def test_a_trial_that_is_taken_away_goes_on_where_it_was(
    taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At an epoch after which nothing was to be decided; then as if it had not been taken away, to the bit."""
    monkeypatch.setattr(search.execution.worker, "REPORT_SECONDS", 0.0)
    whole = [epoch for report in steps(started(tmp_path / "whole", monkeypatch)) for epoch in report["epochs"]]
    worker = started(tmp_path, monkeypatch)
    assert [numbers(worker.step()) for _ in range(3)] == [[1], [2], [3]]
    assert training.latest(tmp_path / "0") is None
    getattr(worker, taken)(*([config(tmp_path, 1)] if taken == "reset_config" else []))
    rest = steps(started(tmp_path, monkeypatch, epochs_known=3))
    assert [numbers(report) for report in rest] == [[4], [5]]
    assert timeless([report["epochs"][0] for report in rest]) == timeless(whole[3:])
    mine, theirs = training.latest(tmp_path / "0"), training.latest(tmp_path / "whole" / "0")
    assert mine is not None
    assert theirs is not None
    assert all(torch.equal(mine.state.weights[name], theirs.state.weights[name]) for name in theirs.state.weights)


def test_epochs_that_a_kill_cost_are_trained_again_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The study knows four epochs, the checkpoint one."""
    monkeypatch.setattr(search.execution.worker, "REPORT_SECONDS", 0.0)
    worker = started(tmp_path / "first", monkeypatch)
    worker.step()
    worker.leave()
    worker._begin(worker.config | {"epochs_known": 1})
    known = [worker.step()["epochs"][0] for _ in range(3)]
    shutil.copytree(tmp_path / "first" / "0", tmp_path / "0")  # as a kill leaves it
    again = [report["epochs"][0] for report in steps(started(tmp_path, monkeypatch, epochs_known=4))]
    assert [epoch["epoch"] for epoch in again] == [2, 3, 4, 5]
    assert timeless(again[:3]) == timeless(known)
    worker.leave()


@linux
@pytest.mark.parametrize("written", ["after an epoch", "when it is taken away"])
def test_a_checkpoint_that_cannot_be_written_halts(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.execution.worker, "REPORT_SECONDS", 0.0)
    worker = started(tmp_path, monkeypatch, rungs=[2])
    assert numbers(worker.step()) == [1]
    limit(100)
    try:
        halted = worker.step().get("halt") if written == "after an epoch" else worker.leave()
    finally:
        limit(resource.RLIM_INFINITY)
    assert halted == f"{tmp_path}/0 cannot be written (File too large); make room"
    assert training.latest(tmp_path / "0") is None


OUT = "CUDA out of memory. Tried to allocate 2.00 GiB"


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [
        (0.0, f"out of memory: {OUT}"),
        (0.25, f"out of memory in 0.25 of a GPU: {OUT}; resources.gpus_per_trial=1 gives a trial a whole one"),
        (1.0, f"out of memory: {OUT}"),
    ],
)
def test_a_trial_that_does_not_fit_is_infeasible(gpus: float, reason: str, tmp_path: Path) -> None:
    report = worker(tmp_path, gpus=gpus)._failure(torch.OutOfMemoryError(OUT))
    assert (report["failure"], report["reason"]) == ("infeasible", reason)


@pytest.mark.parametrize("differs", ["python", "torch", "ray", "this code"])
def test_a_node_with_other_software_than_the_driver_is_refused(differs: str, tmp_path: Path) -> None:
    report = worker(tmp_path, software=machine.software() | {differs: "0.1"}).step()
    assert report["number"] == 7
    assert re.fullmatch(
        rf"node [\d.]+ has {differs} \w[\w.+]+, the driver 0\.1; install the same on .*", report["halt"]
    )


def test_running_out_of_memory_is_recognised_by_what_torch_raises() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60)
    assert device.out_of_memory(raised.value)
    assert device.out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    with pytest.raises(RuntimeError) as other:
        torch.zeros(2) + torch.zeros(3)
    assert not device.out_of_memory(other.value)
    assert not device.out_of_memory(ValueError("CUDA error: out of memory"))


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_a_device_that_failed_ends_the_process(error: Exception, tmp_path: Path) -> None:
    """The texts are those of torch's own messages; what is raised goes to Ray, which starts the trial in another."""

    def failing() -> Generator[dict[str, Any]]:
        raise error
        yield {}

    with pytest.raises(RuntimeError):
        worker(tmp_path, failing()).step()


def test_a_programming_error_is_reported_and_the_worker_lives(tmp_path: Path) -> None:
    report = worker(tmp_path, (int(text) for text in ["x"])).step()
    assert (report["failure"], report["done"]) == ("failed", True)
    assert report["reason"] == "ValueError: invalid literal for int() with base 10: 'x'"
    assert "Traceback" in report["traceback"]


def test_a_share_of_the_card_leaves_room_for_the_context() -> None:
    """0.25 x 80 GiB = 20 GiB, less 0.75 GiB: 19.25 of 80."""
    assert device.memory_fraction(0.25, 80 * 2**30) == 19.25 / 80
    assert device.memory_fraction(0.1, 4 * 2**30) == 0.0
