import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from search.errors import InputError
from search.storage import Output
from search.tracking import Store
from tests.support.mlflow_server import Server, free_port

pytest_plugins = ["tests.support.fixtures_mlflow"]

REMEDY = "correct --tracking-uri (or MLFLOW_TRACKING_URI), or leave it out to keep runs in a file below --output."

ACCESS = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, ask its owner for the permission EDIT, or name an "
    "experiment of your own with MLFLOW_EXPERIMENT_NAME."
)


@pytest.fixture(scope="module")
def impostor() -> Iterator[str]:
    """A server that is not MLflow's and answers `/CODE/...` with that status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"hello": 1}' if "json" in self.path else b"<html>Mind the gap</html>"
            self.send_response(int(self.path.split("/")[1]))
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def sentence(uri: str, experiment: str = "resnet-search") -> str:
    with pytest.raises(InputError) as raised:
        Store(uri, experiment).check()
    return str(raised.value)


def test_stores_that_can_be_used(mlflow_server: Server, tmp_path: Path) -> None:
    Store(mlflow_server.url, "an experiment that is not there yet").check()
    Store(mlflow_server.url, "Default").check()
    Store.chosen(None, "resnet-search", Output(str(tmp_path / "new"))).check()


def test_a_plain_run_keeps_everything_below_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = Store.chosen(None, "e", Output("results"))
    assert plain == Store(f"sqlite:///{tmp_path}/results/mlflow.db", "e", f"{tmp_path}/results/mlartifacts")
    assert Store.chosen("https://mlflow.example.org", "e", Output("results")).root is None


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("200/json", f"answers, but not as an MLflow server; {REMEDY}"),
        ("200/html", f"answers, but not as an MLflow server (<html>Mind the gap</html>); {REMEDY}"),
        ("404", f"answers, but not as an MLflow server (<html>Mind the gap</html>); {REMEDY}"),
        ("502", f"does not answer (too many 502 error responses); {REMEDY}"),
        ("401", f"refuses us in experiment 'resnet-search' (<html>Mind the gap</html>); {ACCESS}"),
        ("403", f"refuses us in experiment 'resnet-search' (<html>Mind the gap</html>); {ACCESS}"),
    ],
)
def test_servers_that_are_no_use(impostor: str, path: str, fault: str) -> None:
    assert sentence(f"http://name:secret@{impostor}/{path}") == f"tracking URI 'http://{impostor}/{path}' {fault}"


def test_servers_that_are_not_there(impostor: str) -> None:
    """Why, says the system."""
    for address, words in (
        (f"http://127.0.0.1:{free_port()}", "Connection refused"),
        ("http://mlflow.invalid", "Name or service not known"),
        (f"https://{impostor}", "SSL"),
        ("http://127.0.0.1:port", "port"),
    ):
        told = sentence(address)
        assert told.startswith(f"tracking URI '{address}' does not answer (")
        assert words in told
        assert told.endswith(f"); {REMEDY}")


def test_a_server_that_hangs_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, never answers
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        before = time.monotonic()
        assert sentence(uri) == f"tracking URI '{uri}' does not answer (timed out); {REMEDY}"
        assert time.monotonic() - before < 12


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be taken for one " * 100)
    assert sentence(f"sqlite:///{text}") == (
        f"tracking URI 'sqlite:///{text}' cannot be written: file is not a database; {REMEDY}"
    )
    assert "cannot be written: Not a directory" in sentence(f"sqlite:///{text}/below/mlflow.db")
    assert "cannot be written: unable to open database file" in sentence(f"sqlite:///{tmp_path}")
    assert sentence("sqlite://").endswith("names no file; write sqlite:/// and a path.")


@pytest.mark.parametrize(
    "uri", ["./mlruns", "", "ftp://example.org", "file:///tmp/mlruns", "127.0.0.1:5000", "mysql://127.0.0.1/mlflow"]
)
def test_addresses_of_no_store(uri: str) -> None:
    fault = "is not an address of an MLflow store, which begins with http://, https:// or sqlite:///"
    assert sentence(uri) == f"tracking URI {uri!r} {fault}; {REMEDY}"


def test_an_experiment_that_was_deleted(mlflow_server: Server) -> None:
    import json
    import urllib.request

    def post(method: str, **fields: str) -> dict[str, str]:
        url, headers = f"{mlflow_server.url}/api/2.0/mlflow/experiments/{method}", {"content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(fields).encode(), headers)) as response:
            return json.load(response)

    post("delete", experiment_id=post("create", name="gone")["experiment_id"])
    assert sentence(mlflow_server.url, "gone") == (
        f"MLflow experiment 'gone' has been deleted on {mlflow_server.url}; restore it there, or name another with "
        f"MLFLOW_EXPERIMENT_NAME."
    )
