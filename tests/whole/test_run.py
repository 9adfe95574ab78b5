"""The user's path, whole: command, Ray, Optuna, MLflow, report, and the same command again."""

import json
import math
import re
import signal
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from resnet import build
from search.data import prepare
from search.spec import DataSpec, TrialSpec
from tests.support.empty_database import tracked
from tests.support.fixtures import run_here
from tests.support.journal import reported
from tests.support.study_process import STUDY, command, listening, run, start, wait_until

pytestmark = pytest.mark.slow


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results" / "tiny" / "report.json").read_text())


def query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """MLflow's own database, read without MLflow."""
    with sqlite3.connect(folder / "results" / "mlflow.db") as database:
        return database.execute(sql).fetchall()


def tags(folder: Path, key: str) -> dict[str, str]:
    return dict(query(folder, f"select run_uuid, value from tags where key = '{key}'"))


def journal(folder: Path) -> list[optuna.trial.FrozenTrial]:
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "results" / "tiny" / "optuna.journal"))
    (study,) = optuna.get_all_study_summaries(optuna.storages.JournalStorage(backend))
    return optuna.load_study(study_name=study.study_name, storage=optuna.storages.JournalStorage(backend)).trials


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, set[str]]:
    """A finished study: its folder, what it printed, and the addresses it listened on while trials ran."""
    folder = tmp_path_factory.mktemp("finished")
    process, log = start(folder, command(folder))
    wait_until(lambda: "[1/6]" in log.read_text(), process, log)
    addresses = listening(process)
    assert process.wait(240) == 0, log.read_text()
    return folder, log.read_text(), addresses


def test_every_trial_is_reported_once(finished: tuple[Path, str, set[str]]) -> None:
    folder, printed, _ = finished
    report = read(folder)
    assert report["study"] == "tiny"
    assert [t["number"] for t in report["trials"]] == list(range(6))
    assert sum(report["counts"].values()) == 6
    complete = [t for t in report["trials"] if t["state"] == "complete"]
    assert report["best"]["val_error"] == min(t["val_error"] for t in complete)
    assert all(t["epochs"] == 3 for t in complete)
    assert {t["params"]["net.depth"] for t in report["trials"]} == {8}
    assert len(re.findall(r"^\[\d/6\]", printed, re.MULTILINE)) == 6
    assert [t["start"] for t in report["trials"]] == ["the papers' recipe", "good on other data", *[None] * 4]
    page = (folder / "results" / "tiny" / "report.md").read_text()
    assert "trial 0: the papers' recipe; trial 1: good on other data" in page


def test_nothing_listens_beyond_this_machine(finished: tuple[Path, str, set[str]]) -> None:
    _, _, addresses = finished
    assert addresses  # Ray did listen
    assert all(a in {"127.0.0.1", "::1", "::ffff:127.0.0.1"} for a in addresses), addresses


def test_optuna_holds_the_same_trials(finished: tuple[Path, str, set[str]]) -> None:
    folder, _, _ = finished
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "diverged": "PRUNED", "failed": "FAIL", "infeasible": "FAIL"}
    for told, kept in zip(read(folder)["trials"], journal(folder), strict=True):
        assert states[told["state"]] == kept.state.name
        assert dict(told["curve"]) == kept.intermediate_values
        assert told["val_error"] == kept.intermediate_values[told["epochs"]]


def test_mlflow_holds_a_run_a_trial_below_one_study(finished: tuple[Path, str, set[str]]) -> None:
    folder, _, _ = finished
    kinds = tags(folder, "search.kind")
    assert sorted(kinds.values()) == ["study"] + ["trial"] * 6
    parent = next(run for run, kind in kinds.items() if kind == "study")
    assert set(tags(folder, "mlflow.parentRunId").values()) == {parent}
    assert "validation error" in tags(folder, "mlflow.note.content")[parent]
    for trial in read(folder)["trials"]:
        run_id = trial["mlflow_run_id"]
        assert tags(folder, "search.trial")[run_id] == str(trial["number"])
        assert tags(folder, "search.state")[run_id] == trial["state"]
        points = query(folder, f"select step, value from metrics where run_uuid = '{run_id}' and key = 'val/error'")
        assert sorted(points) == [tuple(point) for point in trial["curve"]]
        params = dict(query(folder, f"select key, value from params where run_uuid = '{run_id}'"))
        assert set(params) == {*TrialSpec.paths(), "log10 train.lr"}
        assert 10 ** float(params["log10 train.lr"]) == pytest.approx(float(params["train.lr"]), rel=1e-2)
        gated = params["net.shortcut"] == "shortcut_only_gate"
        assert (params["net.gate_bias"] == "n/a") is not gated
        once = dict(query(folder, f"select key, value from latest_metrics where run_uuid = '{run_id}'"))
        assert {"cost/params", "cost/macs", "best/val_error", "train/loss", "cost/images_per_s"} <= once.keys()
        assert query(folder, f"select count(*) from inputs where destination_id = '{run_id}'") == [(1,)]


def test_the_weights_in_mlflow_have_the_error_that_was_reported(finished: tuple[Path, str, set[str]]) -> None:
    folder, _, _ = finished
    best = read(folder)["best"]
    (artifacts,) = (folder / "results" / "mlartifacts").rglob(f"{best['mlflow_run_id']}/artifacts")
    spec = TrialSpec.model_validate_json((artifacts / "trial.json").read_text())
    assert {k: v for k, v in spec.flat().items() if k in best["params"]} == best["params"]
    model = build(spec.net)
    model.load_state_dict(load_file(artifacts / "model.safetensors"))
    prepared = prepare(DataSpec(name="digits", limit=300))
    split = prepared.validation()
    pixels = torch.tensor(np.array(split.images)).permute(0, 3, 1, 2).float() / 255
    errors = []
    for units_for_bfloat16 in (False, True):  # where the processor has them, an image may come out otherwise
        with torch.autocast("cpu", torch.bfloat16, enabled=units_for_bfloat16):
            scores = model.eval()((pixels - prepared.info.mean[0]) / prepared.info.std[0])
        errors.append(100 * (scores.argmax(1).numpy() != split.labels).mean())
    assert best["val_error"] in [pytest.approx(error) for error in errors]
    originals = {np.rint(i * 255 / 16).astype(np.uint8).tobytes() for i in load_digits().images}
    assert {image.tobytes() for image in split.images} <= originals


def test_the_same_command_again_shows_the_answer(finished: tuple[Path, str, set[str]]) -> None:
    folder, printed, _ = finished
    before = (folder / "results" / "tiny" / "optuna.journal").read_bytes()
    again = run(folder, command(folder))
    assert again.returncode == 0, again.stderr
    assert "complete, 6 trials" in again.stdout
    answer = next(line for line in printed.splitlines() if line.startswith("Use a"))
    assert answer in again.stdout
    assert (folder / "results" / "tiny" / "optuna.journal").read_bytes() == before
    assert len(tags(folder, "search.kind")) == 7


def test_two_trials_more_leave_the_others_alone(finished: tuple[Path, str, set[str]]) -> None:
    folder, _, _ = finished
    before = read(folder)["trials"]
    more = run(folder, command(folder, "--trials", "8", "--max-concurrent", "1"))
    assert more.returncode == 0, more.stderr
    assert read(folder)["trials"][:6] == before
    assert len(read(folder)["trials"]) == 8
    assert len(tags(folder, "search.kind")) == 9


def test_other_objectives_make_a_new_report_and_train_nothing(finished: tuple[Path, str, set[str]]) -> None:
    folder, _, _ = finished
    before, known = read(folder)["trials"], journal(folder)
    shown = run_here(folder, command(folder, "--trials", "8", "--set", "search.objectives=[val_error,params]"))
    assert shown.returncode == 0, shown.stderr
    report = read(folder)
    assert report["trials"] == before
    assert [t.datetime_complete for t in journal(folder)] == [t.datetime_complete for t in known]
    assert report["settings"]["objectives"] == ["val_error", "params"]
    complete = [t for t in before if t["state"] == "complete"]
    lowest = {size: min(t["val_error"] for t in complete if t["params_count"] <= size) for size in sizes(complete)}
    best = {t["number"] for t in complete if t["val_error"] == lowest[t["params_count"]]}
    first = {t["number"] for t in complete if t["params_count"] == min(sizes(complete))}
    assert set(report["pareto"]) <= best
    assert report["pareto"][0] in first & best
    assert set(tags(folder, "search.pareto")) == {t["mlflow_run_id"] for t in before if t["number"] in report["pareto"]}


def sizes(trials: list[dict[str, Any]]) -> set[int]:
    return {trial["params_count"] for trial in trials}


def test_longer_training_is_another_study_that_begins_with_the_best(finished: tuple[Path, str, set[str]]) -> None:
    folder, _, _ = finished
    line = command(folder, "--trials", "3", "--max-concurrent", "1", train=STUDY["train"] | {"epochs": 4})
    before = (folder / "results" / "tiny" / "optuna.journal").read_bytes()
    refused = run_here(folder, line)
    assert refused.returncode == 2, refused.stdout
    assert "train.epochs = 4, but study 'tiny' in " in refused.stderr
    assert (folder / "results" / "tiny" / "optuna.journal").read_bytes() == before
    longer = run(folder, [*line, "--name", "longer", "--set", "start={study: tiny, best: 2}"])
    assert longer.returncode == 0, longer.stderr
    assert " of study 'tiny', its best, tried first" in longer.stdout
    complete = [t for t in read(folder)["trials"] if t["state"] == "complete"]
    best = sorted(complete, key=lambda t: (t["val_error"], t["number"]))[:2]  # fewer, where more were stopped early
    again = json.loads((folder / "results" / "longer" / "report.json").read_text())["trials"]
    searched = ("net.version", "net.shortcut", "train.lr")
    assert [[t["params"][p] for p in searched] for t in again[: len(best)]] == [
        [t["params"][p] for p in searched] for t in best
    ]
    assert max(t["epochs"] for t in again) == 4
    trials = len(read(folder)["trials"]) + len(again)
    assert sorted(tags(folder, "search.kind").values()) == ["study"] * 2 + ["trial"] * trials


@pytest.mark.timeout(600)  # three starts of the whole service
@pytest.mark.long
@pytest.mark.nightly
def test_an_interrupted_study_goes_on(tmp_path: Path) -> None:
    """Ended by SIGTERM after two epochs (SIGINT: below, SIGKILL: test_kills.py), then to its end."""
    arguments = command(tracked(tmp_path), "--trials", "4", train={"epochs": 6, "batch_size": 16, "flip": False})

    process, log = start(tmp_path, arguments)
    wait_until(lambda: len(reported(tmp_path / "results" / "tiny")) >= 2, process, log)
    process.send_signal(signal.SIGTERM)
    assert process.wait(240) == 130, log.read_text()
    assert "run the same command again" in log.read_text()
    known = {t.number: (t.params, dict(t.intermediate_values)) for t in journal(tmp_path)}
    again = run(tmp_path, arguments)
    assert again.returncode == 0, again.stderr
    assert len(read(tmp_path)["trials"]) == 4
    now = {t.number: t for t in journal(tmp_path)}
    assert known.keys() <= now.keys(), "nothing that was known is lost, or other than it was"
    for number, (params, values) in known.items():
        assert params.items() <= now[number].params.items()
        assert values.items() <= now[number].intermediate_values.items()
    assert len(tags(tmp_path, "search.kind")) == 5
    doubled = query(tmp_path, "select run_uuid, key, step from metrics group by 1, 2, 3 having count(*) > 1")
    assert doubled == []


@pytest.mark.long
def test_a_time_budget_ends_the_study_with_an_answer(tmp_path: Path) -> None:
    """Counted over both starts: what the first spent until it had a result, and a little for the second."""
    flags = ("--trials", "1000", "--max-concurrent", "1")
    process, log = start(tmp_path, command(tracked(tmp_path), *flags))
    wait_until(lambda: "[1/1000]" in log.read_text(), process, log)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130, log.read_text()
    budget = math.ceil(read(tmp_path)["elapsed_seconds"]) + 5
    ended = run(tmp_path, command(tmp_path, *flags, "--time-budget", f"{budget}s"))
    assert ended.returncode == 0, ended.stderr
    report = read(tmp_path)
    assert report["stopped"] == f"time budget of {budget} s spent"
    assert 0 < len(report["trials"]) < 1000


def test_what_diverges_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    space = {"train.lr": [0.05, 100.0], "net.version": ["v1"]}
    train = {"epochs": 2, "batch_size": 16, "weight_decay": 1.0, "flip": False}  # 100 x 1 > 2: weights grow each step
    flags = ("--set", "net.depth=8", "--max-concurrent", "1")
    ended = run(tmp_path, command(tracked(tmp_path), *flags, "--scheduler", "none", space=space, train=train))
    assert ended.returncode == 0, ended.stderr
    trials = read(tmp_path)["trials"]
    assert all((t["state"] == "diverged") == (t["params"]["train.lr"] == 100.0) for t in trials), trials
    assert {t["state"] for t in trials} == {"complete", "diverged"}
