"""The champion in the registry of a real MLflow server: registered once, loaded, served over HTTP."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import resnet
from search.tracking.client import connect
from search.tracking.registry import DIGEST, register
from tests.support.exported import Made
from tests.support.mlflow_server import Proxy, Server, answers, end_group, free_port, wait_until

pytest_plugins = ["tests.support.fixtures_mlflow", "tests.support.fixtures_export"]

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow has some of its own

Place = tuple[Any, str, str]  # client, experiment, run


def place(uri: str, name: str, root: Path | None = None) -> Place:
    """An experiment and a run that has ended, as a study leaves it."""
    client = connect(uri)
    experiment = client.create_experiment(name, None if root is None else root.as_uri())
    run = client.create_run(experiment).info.run_id
    client.set_terminated(run)
    return client, experiment, run


def renamed(made: Made, folder: Path, name: str, bias: float = 0.0, **facts: Any) -> Path:
    """The exported network as the champion of a study of another name, with another bias of its classifier.

    Its graphs are left as they are: registering does not look into them.
    """
    shutil.copytree(made.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    if bias:
        weights = load_file(folder / "model.safetensors")
        save_file(weights | {"fc.bias": weights["fc.bias"] + bias}, folder / "model.safetensors")
        config["weights_sha256"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    config["about"] |= {"study": name, **facts}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def registered(made: Made, mlflow_server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Path]:
    """A champion that was tested with three seeds, in the registry."""
    errors = {"test_error": 2.5, "test_error_by_seed": {"0": 2.5, "1": 2.0, "2": 3.0}}
    tested = errors | {"test_interval": [1.2579, 3.7421]}
    folder = renamed(made, tmp_path_factory.mktemp("champion") / "digits", "digits", **tested)
    where = place(mlflow_server.url, "champion")
    assert register(*where, str(folder)) == "1"
    return where, folder


def versions(client: Any, name: str) -> list[str]:
    return sorted(str(v.version) for v in client.search_model_versions(f"name = '{name}'"))


def test_what_the_registry_says(registered: tuple[Place, Path], made: Made) -> None:
    (client, experiment, run), folder = registered
    found = client.get_model_version_by_alias("digits", "champion")
    assert (str(found.version), found.run_id) == ("1", run)
    config = json.loads((folder / "config.json").read_text())
    expected = {"test/error": "2.5", "test/seeds": "3", "test/images": "359", DIGEST: config["weights_sha256"]}
    expected |= {"test/error_low": "1.258", "test/error_high": "3.742", "search.study": "digits"}
    assert found.tags.items() >= (expected | {"search.data_digest": made.model.data.info.digest}).items()
    assert found.description.startswith("# digits: a residual network for digits\n")
    assert f"Validation error {made.model.facts.val_error:.2f} %" in found.description
    (logged,) = client.search_logged_models([experiment])
    assert (logged.status, logged.source_run_id, logged.name) == ("READY", run, "champion")
    assert logged.params["net.depth"] == "8"
    assert logged.params["train.lr"] == str(made.model.spec.train.lr)
    assert [output.model_id for output in client.get_run(run).outputs.model_outputs] == [logged.model_id]


def test_the_same_champion_again(registered: tuple[Place, Path]) -> None:
    where, folder = registered
    before = [model.model_id for model in where[0].search_logged_models([where[1]])]
    assert register(*where, str(folder)) == "1"
    assert versions(where[0], "digits") == ["1"]
    assert [model.model_id for model in where[0].search_logged_models([where[1]])] == before
    assert len(where[0].get_run(where[2]).outputs.model_outputs) == 1


def test_the_registered_model_says_what_the_network_says(
    registered: tuple[Place, Path], made: Made, mlflow_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the whole test split."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
    import mlflow

    model = mlflow.pyfunc.load_model("models:/digits@champion")
    found = model.predict(made.images)
    assert found["label"].tolist() == [str(k) for k in made.logits.argmax(1)]
    shares = np.exp(made.logits.astype(np.float64))
    shares /= shares.sum(1, keepdims=True)
    np.testing.assert_allclose(np.stack(found["probabilities"]), shares, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["probability"], shares.max(1), rtol=0, atol=1e-5)
    assert model.loader_module == "mlflow.pyfunc.loaders.code_model"  # no pickle
    assert model.predict(made.images.astype(int)).equals(found)
    for wrong in (made.images / 255.0, made.images[:, :7], made.images[..., 0], made.images.astype(int) - 1):
        with pytest.raises(mlflow.exceptions.MlflowException, match="give whole numbers from 0 to 255"):
            model.predict(wrong)


def test_what_is_kept_with_it(
    registered: tuple[Place, Path], made: Made, mlflow_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
    import mlflow

    kept = Path(mlflow.artifacts.download_artifacts("models:/digits@champion", dst_path=str(tmp_path)))
    assert [path for path in kept.rglob("*") if path.suffix in (".pkl", ".pickle")] == []
    for line in (kept / "requirements.txt").read_text().splitlines():
        name, equals, version = line.partition("==")
        assert (equals, bool(version)) == ("==", True)
        assert name in {"mlflow", "numpy", "onnxruntime", "pandas"}
    folder = registered[1]
    whole = kept / "artifacts" / "digits"
    assert {p.name: p.read_bytes() for p in whole.iterdir()} == {p.name: p.read_bytes() for p in folder.iterdir()}
    assert resnet.load(whole).predict(made.images) == [str(k) for k in made.logits.argmax(1)]
    example = mlflow.models.Model.load(kept).load_input_example(str(kept))
    assert (example == made.model.data.validation().images[:4]).all()
    assert [given.name for given in mlflow.models.Model.load(kept).signature.outputs] == [
        *("label", "probability", "probabilities")
    ]


def test_it_is_served(registered: tuple[Place, Path], made: Made, mlflow_server: Server, tmp_path: Path) -> None:
    """`mlflow models serve`, asked over HTTP."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "models:/digits@champion"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--env-manager", "local", "--workers", "1"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where MLflow looks for uvicorn
    environment = os.environ | {"MLFLOW_TRACKING_URI": mlflow_server.url, "PATH": path}
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        base = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or pinged(base), "the model's server", 120)
        assert process.poll() is None, (tmp_path / "serve.log").read_text()
        rows = asked(base, made.images[:50].tolist())
        assert [row["label"] for row in rows] == [str(k) for k in made.logits[:50].argmax(1)]
        assert all(abs(sum(row["probabilities"]) - 1) < 1e-6 for row in rows)
        fractions = (made.images[:2] / 255).tolist()
        for wrong in (made.images[:2, :7].tolist(), [[[[300]] * 8] * 8], [[[[-1]] * 8] * 8], fractions):
            with pytest.raises(urllib.error.HTTPError, match="400") as refused:
                asked(base, wrong)
            assert "give whole numbers from 0 to 255" in refused.value.read().decode()
    finally:
        if process.poll() is None:
            end_group(process)
    wait_until(lambda: not answers(base), "the end of the model's server")


def pinged(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/ping", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def asked(base: str, images: Any) -> list[dict[str, Any]]:
    data = json.dumps({"inputs": images}).encode()
    request = urllib.request.Request(f"{base}/invocations", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["predictions"]


def test_another_champion_takes_over(made: Made, tmp_path: Path) -> None:
    """And the first again, with more seeds: its version is the same, what is said of it is not. Without a server."""
    where = place(f"sqlite:///{tmp_path}/mlflow.db", "takes over", tmp_path / "artifacts")
    client = where[0]
    first = renamed(made, tmp_path / "first", "rivals")
    second = renamed(made, tmp_path / "second", "rivals", bias=1.0)
    assert register(*where, str(first)) == "1"
    assert register(*where, str(second)) == "2"
    assert str(client.get_model_version_by_alias("rivals", "champion").version) == "2"
    more = {"test_error": 1.5, "test_error_by_seed": {"0": 1.0, "1": 2.0}, "test_interval": [0.0, 7.85]}
    again = renamed(made, tmp_path / "again", "rivals", **more)
    assert register(*where, str(again)) == "1"
    found = client.get_model_version_by_alias("rivals", "champion")
    assert (str(found.version), found.tags["test/error"], found.tags["test/seeds"]) == ("1", "1.5", "2")
    assert versions(client, "rivals") == ["1", "2"]
    assert len(client.search_logged_models([where[1]])) == 2


@pytest.mark.parametrize("lost", ["registered-models/create", "logged-models", "model-versions/create", "alias"])
def test_answers_that_are_lost(lost: str, made: Made, mlflow_server: Server, tmp_path: Path) -> None:
    """The server does what it is asked, and the answer never comes: the same call again makes nothing twice."""
    name = f"lost-{lost.replace('/', '-')}"
    folder = renamed(made, tmp_path / "folder", name)
    _, experiment, run = place(mlflow_server.url, name)
    done: list[str] = []

    def fate(method: str, path: str) -> str:
        if method == "POST" and path.split("?")[0].endswith(lost) and not done:
            done.append(path)
            return "lose"
        return "pass"

    proxy = Proxy(mlflow_server.url, fate)
    try:
        client = connect(proxy.url)
        with pytest.raises(Exception, match="500"):
            register(client, experiment, run, str(folder))
        assert len(done) == 1
        assert register(client, experiment, run, str(folder)) == "1"
    finally:
        proxy.close()
    client = connect(mlflow_server.url)
    assert versions(client, name) == ["1"]
    (logged,) = client.search_logged_models([experiment])
    assert logged.status == "READY"
    assert len(client.get_run(run).outputs.model_outputs) == 1


def test_versions_that_a_hanging_server_made_after_all(made: Made, tmp_path: Path) -> None:
    where = place(f"sqlite:///{tmp_path}/mlflow.db", "doubles", tmp_path / "artifacts")
    client = where[0]
    folder = renamed(made, tmp_path / "folder", "doubles")
    assert register(*where, str(folder)) == "1"
    first = client.get_model_version("doubles", "1")
    client.create_model_version("doubles", first.source, tags=first.tags)
    client.create_model_version("doubles", first.source, tags={DIGEST: "another"})
    assert register(*where, str(folder)) == "1"
    assert versions(client, "doubles") == ["1", "3"]
