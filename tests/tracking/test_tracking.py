import math
import os
import shutil
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from search.records import TrialState
from search.tracking import Store, Tracker, events
from search.tracking.mirror import TrackingError
from search.tracking.outbox import Outbox
from tests.support.mlflow_server import Proxy, Server, history, rest, runs_of, wait_until

pytest_plugins = ["tests.support.fixtures_mlflow"]
pytestmark = pytest.mark.slow

DATA = events.Dataset(name="digits", digest="5f2c", source="scikit-learn", profile={"images": 1797})
START = 1_700_000_000_000  # ms
DRAIN = 60  # seconds


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox.jsonl")


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    return request.node.name


def record_start(tracker: Tracker, trials: str = "24") -> None:
    tracker.record(
        events.StudyStarted(
            name="digits", params={"trials": trials, "space.net.depth": "8 | 20"}, dataset=DATA, time_ms=START
        )
    )


def record_trial(tracker: Tracker, number: int, epochs: int = 5, state: TrialState = TrialState.COMPLETE) -> None:
    start = START + number * 1000
    params = {"net.depth": "20", "net.shortcut_rate": "n/a"}
    tracker.record(
        events.TrialStarted(
            number=number,
            name=f"trial-{number:03} resnet20",
            params=params,
            tags={"search.study": "digits"},
            trial_json="{}",
            time_ms=start,
        )
    )
    for epoch in range(1, epochs + 1):
        tracker.record(
            events.EpochEnded(
                number=number,
                epoch=epoch,
                metrics={"val/error": error(number, epoch), "train/loss": 1 / epoch},
                time_ms=start + epoch,
            )
        )
    tracker.record(
        events.TrialEnded(number=number, state=state, metrics={"cost/params": 272474.0}, time_ms=start + 900)
    )


def error(number: int, epoch: int) -> float:
    return 50 / epoch + number


def assert_all_there_once(server: Server, experiment: str, trials: int, epochs: int = 5) -> None:
    """The server holds one run for the study and one for each trial, with each point of each metric once."""
    runs = runs_of(server.url, experiment)
    assert [run["info"]["run_name"] for run in runs] == ["digits", *(f"trial-{n:03} resnet20" for n in range(trials))]
    for number, run in enumerate(runs[1:]):
        run_id, start = run["info"]["run_id"], START + number * 1000
        steps = range(1, epochs + 1)
        points = [(epoch, error(number, epoch), start + epoch) for epoch in steps]
        assert history(server.url, run_id, "val/error") == points
        assert history(server.url, run_id, "train/loss") == [(e, 1 / e, start + e) for e in steps]
        assert history(server.url, run_id, "cost/params") == [(0, 272474.0, start + 900)]


def test_a_study_as_the_server_shows_it(mlflow_server: Server, outbox: Outbox, experiment: str, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(range(256)))
    tracker = Tracker(outbox, Store(mlflow_server.url, experiment), "digits-ab12")
    record_start(tracker)
    params, tags = {"net.depth": "20", "train.lr": "0.1"}, {"search.study": "digits", "search.spec_digest": "f00"}
    tracker.record(
        events.TrialStarted(
            number=0,
            name="trial-000 resnet20 v2",
            params=params,
            tags=tags,
            trial_json='{"net": {}}',
            time_ms=START + 1,
        )
    )
    tracker.record(events.EpochEnded(number=0, epoch=1, metrics={"val/error": 3.5}, time_ms=START + 2))
    tracker.record(
        events.TrialEnded(
            number=0,
            state=TrialState.COMPLETE,
            metrics={"best/val_error": 3.5},
            artifacts=(str(weights),),
            time_ms=START + 3,
        )
    )
    tracker.record(
        events.StudyEnded(note="# Use 20 layers", artifacts=(str(weights),), time_ms=START + 9, state="complete")
    )
    assert tracker.drain(DRAIN) == 0
    study, trial = runs_of(mlflow_server.url, experiment)
    tracker.close()

    assert study["info"]["run_name"] == "digits"
    assert study["params"] == {"trials": "24", "space.net.depth": "8 | 20"}
    assert study["tags"]["mlflow.note.content"] == "# Use 20 layers"
    assert (study["tags"]["search.kind"], study["tags"]["search.study"]) == ("study", "digits")
    assert (study["info"]["status"], study["info"]["end_time"]) == ("FINISHED", START + 9)
    assert (study["info"]["run_id"], study["info"]["experiment_id"]) == (
        tracker.study_run_id(),
        tracker.experiment_id,
    )

    assert trial["info"]["run_name"] == "trial-000 resnet20 v2"
    assert tracker.run_ids() == {0: trial["info"]["run_id"]}
    assert (trial["info"]["start_time"], trial["info"]["end_time"]) == (START + 1, START + 3)
    assert trial["params"] == params
    expected = {"mlflow.parentRunId": study["info"]["run_id"], "search.kind": "trial", "search.trial": "0"}
    assert trial["tags"].items() >= (expected | tags | {"search.state": "complete"}).items()
    assert history(mlflow_server.url, trial["info"]["run_id"], "val/error") == [(1, 3.5, START + 2)]
    assert history(mlflow_server.url, trial["info"]["run_id"], "best/val_error") == [(0, 3.5, START + 3)]

    for run in (study, trial):
        (used,) = run["inputs"]["dataset_inputs"]
        assert used["tags"] == [{"key": "mlflow.data.context", "value": "training"}]
        assert (used["dataset"]["name"], used["dataset"]["digest"]) == ("digits", "5f2c")
        assert used["dataset"]["profile"] == '{"images": 1797}'
    listed = rest(mlflow_server.url, "artifacts/list", run_id=trial["info"]["run_id"])["files"]
    assert [(file["path"], int(file["file_size"])) for file in listed] == [
        ("model.safetensors", 256),
        ("trial.json", 11),
    ]
    query = urlencode({"run_id": trial["info"]["run_id"], "path": "model.safetensors"})
    with urllib.request.urlopen(f"{mlflow_server.url}/get-artifact?{query}") as response:
        assert response.read() == bytes(range(256))


def test_how_trials_ended(mlflow_server: Server, outbox: Outbox, experiment: str) -> None:
    status = {"complete": "FINISHED", "pruned": "FINISHED", "diverged": "FINISHED", "infeasible": "FAILED"}
    status |= {"failed": "FAILED"}
    tracker = Tracker(outbox, Store(mlflow_server.url, experiment), "digits-ab12")
    record_start(tracker)
    for number, state in enumerate(status):
        tracker.record(events.TrialStarted(number=number, name=state, params={}, time_ms=START + 1 + number))
        tracker.record(events.TrialEnded(number=number, state=TrialState(state), reason=f"why {state}"))
    assert tracker.drain(DRAIN) == 0
    tracker.close()
    runs = runs_of(mlflow_server.url, experiment)[1:]
    assert {run["tags"]["search.state"]: run["info"]["status"] for run in runs} == status
    assert [run["tags"]["search.reason"] for run in runs] == [f"why {state}" for state in status]


def test_losses_that_are_no_numbers(mlflow_server: Server, outbox: Outbox, experiment: str) -> None:
    tracker = Tracker(outbox, Store(mlflow_server.url, experiment), "digits-ab12")
    record_start(tracker)
    tracker.record(events.TrialStarted(number=0, name="t", params={}))
    tracker.record(
        events.EpochEnded(number=0, epoch=1, metrics={"train/loss": math.nan, "val/loss": math.inf, "val/error": 90.0})
    )
    assert tracker.drain(DRAIN) == 0
    tracker.close()
    for key in ("train/loss", "val/loss"):
        ((step, value, _),) = history(mlflow_server.url, tracker.run_ids()[0], key)
        assert step == 1
        assert math.isnan(value)


def test_more_than_one_call_can_carry(mlflow_server: Server, outbox: Outbox, experiment: str) -> None:
    many = {f"p{number}": "v" * 7000 for number in range(120)}
    tracker = Tracker(outbox, Store(mlflow_server.url, experiment), "digits-ab12")
    tracker.record(events.StudyStarted(name="digits", params=many, tags={f"t{number}": "x" for number in range(120)}))
    tracker.record(events.TrialStarted(number=0, name="t", params={}))
    for epoch in range(1, 700):
        tracker.record(
            events.EpochEnded(number=0, epoch=epoch, metrics={"a": epoch, "b": epoch}, time_ms=START + epoch)
        )
    tracker.record(events.StudyEnded(note="line\n" * 3000, state="complete"))
    assert tracker.drain(DRAIN) == 0
    tracker.close()
    study = next(run for run in runs_of(mlflow_server.url, experiment) if run["tags"]["search.kind"] == "study")
    assert study["params"] == dict.fromkeys(many, "v" * 6000)
    assert sum(1 for key in study["tags"] if key.startswith("t")) == 120
    assert study["tags"]["mlflow.note.content"].endswith("line\n\n(The rest is in report.md among the artifacts.)")
    points = history(mlflow_server.url, tracker.run_ids()[0], "b")
    assert points == [(epoch, float(epoch), START + epoch) for epoch in range(1, 700)]


def test_a_server_killed_and_started_again(mlflow_server: Server, outbox: Outbox, experiment: str) -> None:
    tracker = Tracker(outbox, Store(mlflow_server.url, experiment), "digits-ab12")
    record_start(tracker)
    record_trial(tracker, 0)
    assert tracker.drain(DRAIN) == 0
    mlflow_server.kill()
    try:
        record_trial(tracker, 1)
        record_trial(tracker, 2)
        wait_until(lambda: "Connection refused" in (tracker.trouble or ""), "the sender's notice")
        assert tracker.drain(0.1) == outbox.unsent == 14
    finally:
        mlflow_server.start()
    record_trial(tracker, 3)
    tracker.record(events.StudyEnded(note="# Done", state="complete"))
    assert tracker.drain(DRAIN) == 0
    assert tracker.trouble is None
    tracker.close()
    assert_all_there_once(mlflow_server, experiment, trials=4)


def test_a_server_that_fails_half_the_calls(mlflow_server: Server, outbox: Outbox, experiment: str) -> None:
    """Of each kind of call, the first's answer is lost, the third never arrives, and so on."""
    calls: Counter[str] = Counter()

    def fate(method: str, path: str) -> str:
        kind = f"{method} {path.partition('?')[0]}"
        calls[kind] += 1
        return ("pass", "lose", "pass", "refuse")[calls[kind] % 4]

    proxy = Proxy(mlflow_server.url, fate)
    tracker = Tracker(outbox, Store(proxy.url, experiment), "digits-ab12")
    record_start(tracker)
    for number in range(2):
        record_trial(tracker, number)
    assert tracker.drain(DRAIN) == 0
    assert_all_there_once(mlflow_server, experiment, trials=2)  # before the end, which would delete doubles
    tracker.record(events.StudyEnded(note="# Done", state="complete"))
    assert tracker.drain(DRAIN) == 0
    tracker.close()
    proxy.close()
    assert_all_there_once(mlflow_server, experiment, trials=2)


def test_a_server_that_hangs(
    mlflow_server: Server, outbox: Outbox, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller records on while the creation of a run hangs; that the server creates it twice then does not show."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")  # seconds
    fate = "hold"
    proxy = Proxy(mlflow_server.url, lambda method, path: fate if path.endswith("/runs/create") else "pass")
    tracker = Tracker(outbox, Store(proxy.url, experiment), "digits-ab12")
    record_start(tracker)
    wait_until(lambda: len(proxy.held) == 2, "a second attempt")
    for number in range(3):
        record_trial(tracker, number)  # returns, although nothing has been sent
    assert outbox.unsent == 22
    fate = "pass"
    wait_until(lambda: tracker.study_run_id() is not None, "an attempt that gets through")
    proxy.release.set()  # only now the server sees the requests given up
    wait_until(lambda: len(proxy.forwarded_late) == len(proxy.held), "the late requests")
    tracker.record(events.StudyEnded(note="# Done", state="complete"))
    assert tracker.drain(DRAIN) == 0
    tracker.close()
    proxy.close()
    assert_all_there_once(mlflow_server, experiment, trials=3)


def test_a_driver_that_lost_its_place(mlflow_server: Server, outbox: Outbox, experiment: str, tmp_path: Path) -> None:
    tracker = Tracker(outbox, Store(mlflow_server.url, experiment), "digits-ab12")
    record_start(tracker)
    record_trial(tracker, 0)
    assert tracker.drain(DRAIN) == 0
    tracker.close()
    (tmp_path / "outbox.cursor.json").unlink()

    again = Tracker(Outbox(outbox.path), Store(mlflow_server.url, experiment), "digits-ab12")
    record_start(again)
    record_trial(again, 0)  # told again, as after a crash: no epoch is doubled
    again.record(
        events.TrialEnded(
            number=0, state=TrialState.COMPLETE, metrics={"cost/params": 272474.0}, time_ms=START + 999_999
        )
    )
    record_trial(again, 1)
    assert again.drain(DRAIN) == 0
    again.close()
    assert again.study_run_id() == tracker.study_run_id()
    assert again.run_ids().items() >= tracker.run_ids().items()
    assert_all_there_once(mlflow_server, experiment, trials=2)


def test_another_server_gets_everything(mlflow_server: Server, outbox: Outbox, experiment: str, tmp_path: Path) -> None:
    tracker = Tracker(
        outbox, Store(f"sqlite:///{tmp_path}/mlflow.db", experiment, str(tmp_path / "files")), "digits-ab12"
    )
    record_start(tracker)
    record_trial(tracker, 0)
    assert tracker.drain(DRAIN) == 0
    tracker.close()
    (stored,) = (tmp_path / "files" / tracker.run_ids()[0] / "artifacts").iterdir()
    assert (stored.name, stored.read_text()) == ("trial.json", "{}")

    moved = Tracker(Outbox(outbox.path), Store(mlflow_server.url, experiment), "digits-ab12")
    record_trial(moved, 1)
    assert moved.drain(DRAIN) == 0
    moved.close()
    assert_all_there_once(mlflow_server, experiment, trials=2)


def test_a_study_run_deleted_by_hand_is_written_again(mlflow_server: Server, outbox: Outbox, experiment: str) -> None:
    tracker = Tracker(outbox, Store(mlflow_server.url, experiment), "digits-ab12")
    record_start(tracker)
    record_trial(tracker, 0)
    assert tracker.drain(DRAIN) == 0
    tracker.close()
    deletion = f'{{"run_id": "{tracker.study_run_id()}"}}'.encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{mlflow_server.url}/api/2.0/mlflow/runs/delete", deletion, headers)
    urllib.request.urlopen(request).close()

    again = Tracker(Outbox(outbox.path), Store(mlflow_server.url, experiment), "digits-ab12")
    record_trial(again, 1)
    assert again.drain(DRAIN) == 0
    again.close()
    assert again.study_run_id() != tracker.study_run_id()
    assert_all_there_once(mlflow_server, experiment, trials=2)
    parents = {run["tags"].get("mlflow.parentRunId") for run in runs_of(mlflow_server.url, experiment)[1:]}
    assert parents == {again.study_run_id()}


def test_a_study_continued_with_more_trials(mlflow_server: Server, outbox: Outbox, experiment: str) -> None:
    for trials in ("24", "48"):
        tracker = Tracker(Outbox(outbox.path), Store(mlflow_server.url, experiment), "digits-ab12")
        record_start(tracker, trials)
        assert tracker.drain(DRAIN) == 0
        tracker.close()
    (run,) = runs_of(mlflow_server.url, experiment)
    assert (run["params"]["trials"], run["tags"]["search.now.trials"]) == ("24", "48")
    assert (run["info"]["status"], run["tags"]["search.state"]) == ("RUNNING", "running")


def test_a_refused_event_is_raised_and_kept(mlflow_server: Server, outbox: Outbox, experiment: str) -> None:
    tracker = Tracker(outbox, Store(mlflow_server.url.replace("//", "//name:secret@"), experiment), "digits-ab12")
    record_start(tracker)
    tracker.record(events.TrialStarted(number=0, name="t", params={"net.depth": "20"}))
    assert tracker.drain(DRAIN) == 0
    outbox.append(
        events.TrialStarted(time_ms=START, number=0, name="t", params={"net.depth": "56"})
    )  # params never change
    tracker.record(events.EpochEnded(number=0, epoch=1, metrics={"val/error": 1.0}))
    with pytest.raises(TrackingError, match=r"2 events unsent.*net\.depth") as raised:
        tracker.drain(DRAIN)
    tracker.close()
    assert outbox.unsent == 2
    assert "secret" not in str(raised.value) + "".join(raised.value.__notes__)


def test_no_credentials_are_kept(mlflow_server: Server, outbox: Outbox, experiment: str, tmp_path: Path) -> None:
    address = mlflow_server.url.replace("//", "//name:secret@")
    tracker = Tracker(outbox, Store(address, experiment), "digits-ab12")
    tracker.record(events.StudyStarted(name="digits", params={"tracking_uri": address}, tags={"from": address}))
    tracker.record(events.TrialStarted(number=0, name="t", params={"tracking_uri": address}, trial_json="{}"))
    tracker.record(events.TrialEnded(number=0, state=TrialState.FAILED, reason=f"cannot reach {address}/x"))
    tracker.record(events.StudyEnded(note=f"[runs]({address})", state="complete"))
    assert tracker.drain(DRAIN) == 0
    tracker.close()
    runs = runs_of(mlflow_server.url, experiment)
    assert "secret" not in str(runs)
    assert {run["params"]["tracking_uri"] for run in runs} == {mlflow_server.url}
    assert not [path.name for path in tmp_path.iterdir() if b"secret" in path.read_bytes()]


def test_an_epoch_is_recorded_once(tmp_path: Path) -> None:
    path = tmp_path / "outbox.jsonl"
    for _ in range(2):
        tracker = Tracker(Outbox(path), Store("http://127.0.0.1:9", "e"), "k")  # nobody listens there
        for epoch in (1, 2, 2):
            tracker.record(events.EpochEnded(number=0, epoch=epoch, metrics={"val/error": 1.0}))
        tracker.close()
    recorded = [event.epoch for event, _ in Outbox(path).events() if isinstance(event, events.EpochEnded)]
    assert recorded == [1, 2]


QUIET = """
import pathlib, sys
from search.records import TrialState
from search.tracking import Store, Tracker, events
from search.tracking.outbox import Outbox
folder = pathlib.Path(sys.argv[1])
assert "mlflow" not in sys.modules
store = Store(f"sqlite:///{folder}/mlflow.db", "e", str(folder / "files"))
tracker = Tracker(Outbox(folder / "outbox.jsonl"), store, "k")
tracker.record(events.StudyStarted(name="s", params={}))
tracker.record(events.TrialStarted(number=0, name="t", params={}, trial_json="{}"))
tracker.record(events.TrialEnded(number=0, state=TrialState.COMPLETE))
tracker.record(events.StudyEnded(note="note", state="complete"))
assert tracker.drain(60) == 0
from mlflow.telemetry.client import get_telemetry_client
from mlflow.telemetry.utils import is_telemetry_disabled
assert is_telemetry_disabled() and get_telemetry_client() is None
tracker.close()
"""


@pytest.fixture
def outside_git(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "a folder"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_tracking_is_silent_and_tells_nobody(outside_git: Path) -> None:
    """MLflow counts a test runner or CI as a reason for no telemetry, so the process is run without these signs."""
    environment = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "false", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", QUIET, str(outside_git)]
    run = subprocess.run(command, env=environment, cwd=outside_git, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert {path.name for path in outside_git.iterdir()} >= {"outbox.jsonl", "outbox.cursor.json", "mlflow.db", "files"}
