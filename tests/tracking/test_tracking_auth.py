"""A real MLflow server that asks for a name and a password (`mlflow server --app-name basic-auth`)."""

import json
import os
import re
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from search.errors import InputError
from search.tracking import Store
from tests.support.mirrored import Study
from tests.support.mlflow_server import Server, rest, runs_of
from tests.support.study_process import command, run, start, wait_until

ADMIN = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "of-the-admin-5f02c1"}
ALICE = {"MLFLOW_TRACKING_USERNAME": "alice", "MLFLOW_TRACKING_PASSWORD": "of-alice-9d41b7"}
BOB = {"MLFLOW_TRACKING_USERNAME": "bob", "MLFLOW_TRACKING_PASSWORD": "of-bob-77e0a3"}
REFUSED = (
    r"error: tracking URI '{}' refuses us in experiment '{}' \(.+\); set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD, "
)
SHORT = {"trials": 2, "first_rung": 1, "reduction": 2}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With the users alice and bob, who read everything and write what is their own: MLflow's default."""
    folder = tmp_path_factory.mktemp("asks")
    settings = folder / "auth.ini"
    settings.write_text(f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/users.db\n")
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN["MLFLOW_TRACKING_USERNAME"],
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN["MLFLOW_TRACKING_PASSWORD"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of a test",
    }
    made = Server(folder, ("--app-name", "basic-auth"), environment)
    made.start()
    for user in (ALICE, BOB):
        name, password = user.values()
        _post(made, "2.0/mlflow/users/create", username=name, password=password)
    yield made
    made.kill()


@pytest.fixture
def as_admin(server: Server) -> Iterator[None]:
    """What this process asks the server for, it asks as its admin."""
    before = urllib.request._opener  # pyright: ignore[reportAttributeAccessIssue]
    urllib.request.install_opener(_opener(server))
    yield
    urllib.request.install_opener(before)


def _opener(server: Server) -> urllib.request.OpenerDirector:
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    passwords.add_password(None, server.url, *ADMIN.values(), is_authenticated=True)
    return urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))


def _post(server: Server, method: str, **fields: str) -> None:
    url, headers = f"{server.url}/api/{method}", {"content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(fields).encode(), headers, method="POST")
    _opener(server).open(request).close()


def _shell(tmp_path: Path, user: Mapping[str, str], **more: str) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), **user, **more}


def _named(folder: Path, secret: str) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("as_admin")
def test_a_study_with_name_and_password(server: Server, tmp_path: Path) -> None:
    """Everything is recorded, and the password is nowhere but in the environment."""
    secret = ALICE["MLFLOW_TRACKING_PASSWORD"]
    shell = _shell(tmp_path, ALICE, MLFLOW_EXPERIMENT_NAME="of alice")
    process, log = start(tmp_path, command(tmp_path, "--tracking-uri", server.url, search=SHORT), shell)
    wait_until(lambda: "[1/2]" in log.read_text(), process, log)
    (raylet,) = (p for p in psutil.Process(process.pid).children() if p.name() == "raylet")
    logs = {Path(file.path).parent for file in raylet.open_files() if file.path.endswith("raylet.out")}
    assert [_named(folder.parent, secret) for folder in logs] == [[]]
    shown: set[str] = set()

    def over() -> bool:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            try:
                shown.update(member.cmdline())
            except psutil.NoSuchProcess:
                continue
        return (tmp_path / "results" / "tiny" / "report.json").exists()

    wait_until(over, process, log, 200)
    assert process.wait(240) == 0, log.read_text()
    assert any("search.run" in word for word in shown)
    assert any("raylet" in word for word in shown)
    assert not [word for word in shown if secret in word]
    assert secret not in log.read_text()
    assert _named(tmp_path, secret) == []
    assert _named(server.folder, secret) == []

    look = [sys.executable, "-m", "search.ui", "tiny", "--no-browser"]
    seen = run(tmp_path, look, shell)
    assert seen.returncode == 0, seen.stderr
    assert f"{server.url}/#/experiments/" in seen.stdout
    refused = run(tmp_path, look, _shell(tmp_path, {}))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert re.match(REFUSED.format(server.url, "of alice"), refused.stderr.splitlines()[-1]), refused.stderr

    study, *trials = runs_of(server.url, "of alice")
    assert study["tags"]["search.state"] == "complete"
    assert [trial["tags"]["mlflow.parentRunId"] for trial in trials] == [study["info"]["run_id"]] * 2
    for one in trials:
        files = rest(server.url, "artifacts/list", run_id=one["info"]["run_id"])["files"]
        assert {file["path"] for file in files} == {"model.safetensors", "trial.json"}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("user", [{}, ALICE | {"MLFLOW_TRACKING_PASSWORD": "guessed"}], ids=["none", "wrong ones"])
def test_a_study_without_them(server: Server, tmp_path: Path, user: Mapping[str, str]) -> None:
    ended = run(tmp_path, command(tmp_path, "--tracking-uri", server.url), _shell(tmp_path, user))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.match(REFUSED.format(server.url, "resnet-search"), ended.stderr), ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert list((tmp_path / "results").rglob("optuna.journal")) == []


@pytest.mark.usefixtures("as_admin")
@pytest.mark.long
def test_two_users_and_one_name(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may only read is told before a trial starts; who may write has runs of his own, also under the same name."""

    def be(user: Mapping[str, str]) -> None:
        for name, value in user.items():
            monkeypatch.setenv(name, value)

    def record(folder: str) -> str:
        study = Study(tmp_path / folder, Store(server.url, "shared"))
        study.start()
        study.conclude()
        return study.sent().run

    be(ALICE)
    Store(server.url, "shared").check()
    mine = record("of alice")
    be(BOB)
    with pytest.raises(InputError) as raised:
        Store(server.url, "shared").check()
    assert re.match(REFUSED.format(server.url, "shared"), f"error: {raised.value}")
    assert str(raised.value).endswith("or name an experiment of your own with MLFLOW_EXPERIMENT_NAME.")
    Store(server.url, "of bob").check()

    experiment = rest(server.url, "experiments/get-by-name", experiment_name="shared")["experiment"]["experiment_id"]
    grant = {"resource_type": "experiment", "resource_id": experiment, "permission": "EDIT"}
    _post(server, "3.0/mlflow/users/permissions/grant", username="bob", **grant)
    Store(server.url, "shared").check()
    other = record("of bob")
    runs = runs_of(server.url, "shared")
    assert [run["info"]["run_name"] for run in runs] == ["digits", "000 depth 8 v1 identity"] * 2
    assert [run["tags"].get("mlflow.parentRunId") for run in runs] == [None, mine, None, other]
    users = {run["info"]["run_id"]: run["tags"]["mlflow.user"] for run in runs}
    assert (users[mine], users[other]) == ("alice", "bob")
