"""The mirror of a study in a real MLflow server, through every trouble of that server."""

import math
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from search.records import TrialState
from search.tracking import Store
from search.tracking.client import connect
from search.tracking.mirror import TrackingError
from tests.support.mirrored import START, Study, error, time_of
from tests.support.mlflow_server import Proxy, Server, history, rest, runs_of, wait_until

pytest_plugins = ["tests.support.fixtures_mlflow"]
pytestmark = pytest.mark.slow

DRAIN = 60  # seconds
Opened = Callable[..., Study]


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    return request.node.name


@pytest.fixture
def opened(mlflow_server: Server, experiment: str, tmp_path: Path) -> Opened:
    """The study as a process finds it that starts; by default on the server."""

    def open_it(url: str = mlflow_server.url, **changes: object) -> Study:
        return Study(tmp_path / "digits", Store(url, experiment), changes)

    return open_it


def assert_all_there_once(server: Server, experiment: str, trials: int, epochs: int = 5) -> None:
    """The server holds one run for the study and one for each trial, with each point of each metric once."""
    runs = runs_of(server.url, experiment)
    assert [run["info"]["run_name"] for run in runs] == [
        "digits",
        *(f"{n:03} depth 8 v1 identity" for n in range(trials)),
    ]
    for number, run in enumerate(runs[1:]):
        run_id = run["info"]["run_id"]
        steps = range(1, epochs + 1)
        points = [(epoch, error(number, epoch), time_of(number, epoch)) for epoch in steps]
        assert history(server.url, run_id, "val/error") == points
        assert history(server.url, run_id, "train/loss") == [(e, 1 / e, time_of(number, e)) for e in steps]
        assert [(step, value) for step, value, _ in history(server.url, run_id, "cost/params")] == [(0, 272474.0)]


def test_a_study_as_the_server_shows_it(mlflow_server: Server, opened: Opened, experiment: str) -> None:
    study = opened()
    (study.folder / "trials").mkdir()
    weights = study.folder / "trials" / "model.safetensors"
    weights.write_bytes(bytes(range(256)))
    number = study.start(20)
    study.report(number, 1)
    study.search.finish(number, TrialState.COMPLETE, weights="trials/model.safetensors")
    study.conclude("# Use 20 layers", files=("trials/model.safetensors",))
    study.sent()
    parent, trial = runs_of(mlflow_server.url, experiment)
    record, run = study.search.record(number), trial["info"]["run_id"]

    assert parent["info"]["run_name"] == "digits"
    assert parent["params"]["search.trials"] == "24"
    assert parent["params"]["space.net.depth"] == "[8, 14, 20]"
    assert parent["tags"]["mlflow.note.content"] == "# Use 20 layers"
    assert (parent["tags"]["search.kind"], parent["tags"]["search.study"]) == ("study", "digits")
    assert (parent["info"]["status"], parent["info"]["end_time"]) == ("FINISHED", START + 99_000)
    assert (parent["info"]["run_id"], parent["info"]["experiment_id"]) == (study.run, study.cursor.experiment)

    assert trial["info"]["run_name"] == "000 depth 20 v1 identity"
    assert study.cursor.trials == {0: run}
    assert (trial["info"]["start_time"], trial["info"]["end_time"]) == (record.began, record.began + 500), "one epoch"
    assert trial["params"].items() >= {"net.depth": "20", "net.version": "v1", "net.gate_bias": "n/a"}.items()
    expected = {"mlflow.parentRunId": study.run, "search.kind": "trial", "search.trial": "0"}
    expected |= {"search.state": "complete", "search.study": "digits"}
    assert trial["tags"].items() >= expected.items()
    assert history(mlflow_server.url, run, "val/error") == [(1, 50.0, START + 1)]
    assert history(mlflow_server.url, run, "best/val_error") == [(0, 50.0, record.ended)]

    for shown in (parent, trial):
        (used,) = shown["inputs"]["dataset_inputs"]
        assert used["tags"] == [{"key": "mlflow.data.context", "value": "training"}]
        assert (used["dataset"]["name"], used["dataset"]["digest"]) == ("digits", "5f2c")
        assert used["dataset"]["profile"] == '{"train": 1293, "validation": 145, "test": 359, "shape": "8 x 8 x 1"}'
    listed = rest(mlflow_server.url, "artifacts/list", run_id=run)["files"]
    assert [file["path"] for file in listed] == ["model.safetensors", "trial.json"]
    query = urlencode({"run_id": run, "path": "model.safetensors"})
    with urllib.request.urlopen(f"{mlflow_server.url}/get-artifact?{query}") as response:
        assert response.read() == bytes(range(256))


def test_finals_as_the_server_shows_them(mlflow_server: Server, opened: Opened, experiment: str) -> None:
    """The mean after each seed; by hand: of 4 and 5 it is 4.5, their deviation the root of a half."""
    study = opened()
    study.trial(epochs=3)
    for seed, test in ((0, 4.0), (1, 5.0)):
        study.seed(0, seed, test)
    study.sent()
    _, trial, *seeds = runs_of(mlflow_server.url, experiment)
    run = trial["info"]["run_id"]
    means = history(mlflow_server.url, run, "test/error_mean")
    assert [(step, value) for step, value, _ in means] == [(1, 4.0), (2, 4.5)]
    ((_, last, _),) = history(mlflow_server.url, run, "report/val_error")
    assert last == 16.67, "of a third of 50"
    ((step, deviation, _),) = history(mlflow_server.url, run, "test/error_std")
    assert (step, deviation) == (2, 0.71)
    assert [seed["info"]["run_name"] for seed in seeds] == [f"000 depth 8 v1 identity seed {n}" for n in (0, 1)]
    assert {seed["tags"]["mlflow.parentRunId"] for seed in seeds} == {run}
    assert {seed["tags"]["search.finalist"] for seed in seeds} == {"000 depth 8 v1 identity"}
    assert [seed["inputs"]["dataset_inputs"][0]["tags"][0]["value"] for seed in seeds] == ["train + validation"] * 2


def test_how_trials_ended(mlflow_server: Server, opened: Opened, experiment: str) -> None:
    """With losses that are no numbers, read by another process than the one that wrote them."""
    status = {"complete": "FINISHED", "pruned": "FINISHED", "diverged": "FINISHED", "infeasible": "FAILED"}
    status |= {"failed": "FAILED"}
    study = opened()
    for state in status:
        number = study.start()
        study.report(number, 1, **{"train/loss": math.nan, "val/loss": math.inf})
        study.search.finish(number, TrialState(state), f"why {state}", "Traceback ..." if state == "failed" else None)
    opened().sent()
    runs = runs_of(mlflow_server.url, experiment)[1:]
    assert {run["tags"]["search.state"]: run["info"]["status"] for run in runs} == status
    assert [run["tags"]["search.reason"] for run in runs] == [f"why {state}" for state in status]
    assert [run["tags"].get("search.traceback") for run in runs] == [None] * 4 + ["Traceback ..."]
    for key in ("train/loss", "val/loss"):
        ((step, value, _),) = history(mlflow_server.url, study.cursor.trials[0], key)
        assert (step, math.isnan(value)) == (1, True)


def test_more_than_one_call_can_carry(mlflow_server: Server, opened: Opened, experiment: str) -> None:
    """A value above MLflow's length, a note above a tag's, 2,800 metrics."""
    study = opened(description="v" * 7000)
    number = study.start()
    for epoch in range(1, 700):
        study.report(number, epoch)
    study.conclude("line\n" * 3000)
    study.sent()
    parent = next(run for run in runs_of(mlflow_server.url, experiment) if run["tags"]["search.kind"] == "study")
    assert parent["params"]["description"] == "v" * 6000
    assert parent["tags"]["mlflow.note.content"].endswith("line\n\n(The rest is in report.md among the artifacts.)")
    points = history(mlflow_server.url, study.cursor.trials[number], "train/loss")
    assert points == [(epoch, 1 / epoch, START + epoch) for epoch in range(1, 700)]


def test_a_server_killed_and_started_again(mlflow_server: Server, opened: Opened, experiment: str) -> None:
    study = opened()
    study.mirror.start()
    study.trial()
    assert study.mirror.drain(DRAIN) == 0
    mlflow_server.kill()
    try:
        study.trial()
        study.trial()
        wait_until(lambda: "Connection refused" in (study.mirror.trouble or ""), "the mirror's notice")
        assert study.mirror.drain(0.1) == study.mirror.unsent == 2
    finally:
        mlflow_server.start()
    study.trial()
    study.conclude()
    assert study.mirror.drain(DRAIN) == 0
    assert study.mirror.trouble is None
    study.mirror.close()
    assert_all_there_once(mlflow_server, experiment, trials=4)


def test_a_server_that_fails_half_the_calls(mlflow_server: Server, opened: Opened, experiment: str) -> None:
    """Of each kind of call, the first's answer is lost, the third never arrives, and so on."""
    calls: Counter[str] = Counter()

    def fate(method: str, path: str) -> str:
        kind = f"{method} {path.partition('?')[0]}"
        calls[kind] += 1
        return ("pass", "lose", "pass", "refuse")[calls[kind] % 4]

    proxy = Proxy(mlflow_server.url, fate)
    study = opened(proxy.url)
    study.mirror.start()
    for _ in range(2):
        study.trial()
    assert study.mirror.drain(DRAIN, patient=True) == 0
    assert_all_there_once(mlflow_server, experiment, trials=2)  # before the end, which would delete doubles
    study.conclude()
    assert study.mirror.drain(DRAIN, patient=True) == 0
    study.mirror.close()
    proxy.close()
    assert_all_there_once(mlflow_server, experiment, trials=2)


def test_a_server_that_hangs(
    mlflow_server: Server, opened: Opened, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller records on while the creation of a run hangs; that the server creates it twice then does not show."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")  # seconds
    fate = "hold"
    proxy = Proxy(mlflow_server.url, lambda method, path: fate if path.endswith("/runs/create") else "pass")
    study = opened(proxy.url)
    study.mirror.start()
    wait_until(lambda: len(proxy.held) == 2, "a second attempt")
    for _ in range(3):
        study.trial()  # returns, although nothing has been sent
    assert study.mirror.unsent == 4
    fate = "pass"
    wait_until(lambda: study.mirror.cursor.trials, "an attempt that gets through")
    proxy.release.set()  # only now the server sees the requests given up
    wait_until(lambda: len(proxy.forwarded_late) == len(proxy.held), "the late requests")
    study.conclude()
    assert study.mirror.drain(DRAIN) == 0
    study.mirror.close()
    proxy.close()
    assert_all_there_once(mlflow_server, experiment, trials=3)


def test_another_server_gets_everything(mlflow_server: Server, opened: Opened, experiment: str, tmp_path: Path) -> None:
    study = Study(tmp_path / "digits", Store(f"sqlite:///{tmp_path}/mlflow.db", experiment, str(tmp_path / "files")))
    study.trial()
    study.sent()
    (stored,) = (tmp_path / "files" / study.cursor.trials[0] / "artifacts").iterdir()
    assert stored.name == "trial.json"

    moved = opened()
    assert moved.mirror.unsent == 2
    moved.trial()
    moved.sent()
    assert_all_there_once(mlflow_server, experiment, trials=2)


def test_a_study_continued_with_more_trials(mlflow_server: Server, opened: Opened, experiment: str) -> None:
    first = opened()
    first.conclude()
    first.sent()
    assert [run["info"]["status"] for run in runs_of(mlflow_server.url, experiment)] == ["FINISHED"]
    again = opened(**{"search.trials": 48})
    again.go_on()
    again.sent()
    (run,) = runs_of(mlflow_server.url, experiment)
    assert (run["params"]["search.trials"], run["tags"]["search.now.search.trials"]) == ("24", "48")
    assert (run["info"]["status"], run["tags"]["search.state"]) == ("RUNNING", "running")


def test_what_is_refused_is_raised_and_stays_unsent(mlflow_server: Server, opened: Opened, experiment: str) -> None:
    """A run of this trial with another param, which never changes there: told without the password."""
    study = opened(mlflow_server.url.replace("//", "//name:secret@"))
    study.sent()
    client = connect(mlflow_server.url)
    foreign = client.create_run(study.cursor.experiment, tags={"search.key": f"{study.search.key}/0"})
    client.log_param(foreign.info.run_id, "net.depth", "56")
    again = opened(mlflow_server.url.replace("//", "//name:secret@"))
    again.trial()
    again.mirror.start()
    with pytest.raises(TrackingError, match=r"1 runs unsent.*net\.depth") as raised:
        again.mirror.drain(DRAIN)
    again.mirror.close()
    assert again.mirror.unsent == 1
    assert "secret" not in str(raised.value) + "".join(raised.value.__notes__)


def test_no_credentials_are_kept(mlflow_server: Server, opened: Opened, experiment: str) -> None:
    """Neither in MLflow nor in the folder."""
    address = mlflow_server.url.replace("//", "//name:secret@")
    study = opened(address, **{"tracking.uri": address, "description": f"see {address}"})
    study.search.save_provenance({"command": f"python -m search.run --tracking-uri {address}"})
    study.search.finish(study.start(), TrialState.FAILED, f"cannot reach {address}/x", f"Traceback: {address}")
    study.conclude(f"[runs]({address})")
    study.sent()
    runs = runs_of(mlflow_server.url, experiment)
    assert "secret" not in str(runs)
    assert runs[0]["params"]["tracking.uri"] == mlflow_server.url
    assert runs[0]["tags"]["search.command"] == f"python -m search.run --tracking-uri {mlflow_server.url}"
    trouble = {
        "search.reason": f"cannot reach {mlflow_server.url}/x",
        "search.traceback": f"Traceback: {mlflow_server.url}",
    }
    assert runs[1]["tags"].items() >= trouble.items()
    journal = (study.folder / "optuna.journal").read_bytes()
    assert b"cannot reach" in journal
    assert not [path.name for path in study.folder.iterdir() if b"secret" in path.read_bytes()]


def test_a_folder_that_was_moved(opened: Opened, mlflow_server: Server, experiment: str) -> None:
    """Its files are found where they are now; one that is gone is left out."""
    study = opened()
    for name in ("trials/0000", "trials/0001"):
        (study.folder / name).mkdir(parents=True)
        (study.folder / name / "model.safetensors").write_bytes(name.encode())
        number = study.start()
        study.search.finish(number, TrialState.FAILED, weights=f"{name}/model.safetensors")
    there = study.folder.rename(study.folder.with_name("there"))
    (there / "trials/0001/model.safetensors").unlink()
    moved = Study(there, study.store).sent()
    files = [
        [file["path"] for file in rest(mlflow_server.url, "artifacts/list", run_id=run)["files"]]
        for run in moved.cursor.trials.values()
    ]
    assert files == [["model.safetensors", "trial.json"], ["trial.json"]]


QUIET = """
import pathlib, sys
from search.tracking import Store
from tests.support.mirrored import Study
folder = pathlib.Path(sys.argv[1])
assert "mlflow" not in sys.modules
study = Study(folder / "digits", Store(f"sqlite:///{folder}/mlflow.db", "e", str(folder / "files")))
study.trial()
study.conclude()
study.sent()
from mlflow.telemetry.client import get_telemetry_client
from mlflow.telemetry.utils import is_telemetry_disabled
assert is_telemetry_disabled() and get_telemetry_client() is None
"""


def test_tracking_is_silent_and_tells_nobody(tmp_path: Path) -> None:
    """MLflow counts a test runner or CI as a reason for no telemetry, so the process is run without these signs."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    environment = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "false", "PYTHONPATH": str(Path(__file__).parents[2])}
    quiet = "import optuna; optuna.logging.set_verbosity(optuna.logging.WARNING)\n"  # as a study does
    command = [sys.executable, "-c", quiet + QUIET, str(folder)]
    run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert {path.name for path in folder.iterdir()} >= {"digits", "mlflow.db", "files"}
    assert {path.name for path in (folder / "digits").iterdir()} == {"optuna.journal", "mlflow.json"}
