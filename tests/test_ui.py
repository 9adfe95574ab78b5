"""`python -m search.ui`: MLflow's pages for whoever has typed it, and for no other user of the machine."""

import http.client
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import Page, expect

from search.storage import Output
from search.tracking import Store
from search.ui import main
from tests.support.empty_database import place
from tests.support.mirrored import Study
from tests.support.mlflow_pages import LOAD_MS
from tests.support.mlflow_server import end_group, wait_until

pytest_plugins = ["tests.support.fixtures_pages"]
pytestmark = pytest.mark.slow

CREATE = "/api/2.0/mlflow/experiments/create"
JSON = {"content-type": "application/json"}


@dataclass
class Opened:
    """The command while it runs."""

    folder: Path
    process: "subprocess.Popen[bytes]"
    address: str  # of the charts, as it is printed
    typed: list[str]  # the command line of the browser that it started

    @property
    def token(self) -> str:
        return re.search(r"\?token=([\w-]{43})#/", self.address).group(1)  # pyright: ignore[reportOptionalMemberAccess]

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(self.address).port, timeout=60)
        with closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace"), dict(answer.getheaders())

    def enter(self) -> dict[str, str]:
        """The cookie that a browser gets by the address."""
        status, _, headers = self.ask("GET", f"/?token={self.token}")
        assert status == 200
        return {"cookie": headers["set-cookie"].partition(";")[0]}

    def experiments(self) -> set[str]:
        with closing(sqlite3.connect(self.folder / "results" / "mlflow.db")) as database:
            return {name for (name,) in database.execute("SELECT name FROM experiments")}


def begun(output: Path) -> Study:
    """A study of which MLflow has nothing yet."""
    place(output / "mlflow.db")
    study = Study(output / "digits", Store.chosen(None, "resnet-search", Output(str(output))))
    (study.folder / "study.yaml").write_text(study.spec.to_yaml())
    return study


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("opened")
    begun(folder / "results").sent(lambda study: study.trial())
    browser = folder / "browser"  # writes down its command line
    browser.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/typed.part\nmv {folder}/typed.part {folder}/typed\n')
    browser.chmod(0o755)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "search.ui", "digits", "--port", "0"], cwd=folder, stdout=log, stderr=log,
            env=os.environ | {"BROWSER": f"{browser} %s"}, start_new_session=True,
        )  # fmt: skip
    wait_until((folder / "typed").exists, "the browser's start", 200)
    address = re.search(r"http://\S+", (folder / "log").read_text())
    assert address, (folder / "log").read_text()
    yield Opened(folder, process, address.group(), (folder / "typed").read_text().splitlines())
    if process.poll() is None:
        end_group(process)


@pytest.mark.parametrize(
    "path", ["/", "/health", "/version", "/static-files/index.html", "/?token=", "/?token=guessed"]
)
def test_nothing_is_shown_without_the_token(opened: Opened, path: str) -> None:
    status, body, headers = opened.ask("GET", path)
    assert status == 403
    assert "python -m search.ui" in body
    assert "set-cookie" not in headers


@pytest.mark.parametrize(
    "cookie", [{}, {"cookie": "resnet-search-5000=x"}, {"cookie": "x=\xe9"}, {"authorization": "Bearer x"}]
)
def test_nothing_is_written_without_the_token(opened: Opened, cookie: Mapping[str, str]) -> None:
    before = opened.experiments()
    for path in (CREATE, "/ajax-api/2.0/mlflow/experiments/create", f"{CREATE}?token={opened.token}"):
        status, _, _ = opened.ask("POST", path, JSON | cookie, '{"name": "intruder"}')
        assert status == 403
    artifact = "/api/2.0/mlflow-artifacts/artifacts/python_model.pkl"
    assert opened.ask("PUT", artifact, cookie, "import os")[0] == 403
    assert opened.experiments() == before
    assert not list((opened.folder / "results").rglob("python_model.pkl"))


def test_with_the_token_one_enters_and_may_write(opened: Opened) -> None:
    _, body, headers = opened.ask("GET", f"/?token={opened.token}")
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in headers["set-cookie"].split(";")}
    assert opened.token not in body
    cookie = opened.enter()
    assert opened.ask("GET", "/health", cookie)[:2] == (200, "OK")
    assert opened.ask("POST", CREATE, JSON | cookie, '{"name": "mine"}')[0] == 200
    assert "mine" in opened.experiments()


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "rebound.example.org:5000"},
        {"host": "10.example.org"},
        {"host": "[127.0.0.1"},
        {"host": ""},
        {"origin": "https://example.org"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},  # a page of another user's server
    ],
    ids=lambda headers: " ".join(*headers.items()),
)
def test_other_pages_get_nothing_even_with_the_cookie(opened: Opened, headers: Mapping[str, str]) -> None:
    status, body, _ = opened.ask("POST", CREATE, JSON | opened.enter() | headers, '{"name": "forged"}')
    assert status in (400, 403), body
    assert opened.ask("GET", "/version", opened.enter() | headers)[0] in (400, 403)
    assert "forged" not in opened.experiments()


def test_a_tunnel_from_another_port_may_ask(opened: Opened) -> None:
    for host in ("localhost:8080", "127.0.0.1:8080"):
        headers = JSON | opened.enter() | {"host": host, "origin": f"http://{host}"}
        assert opened.ask("POST", CREATE, headers, json.dumps({"name": host}))[0] == 200


def test_no_other_user_sees_the_token(opened: Opened) -> None:
    """On the command line of every process of the command and of its browser; in the file that leads there."""
    family = [psutil.Process(opened.process.pid), *psutil.Process(opened.process.pid).children(recursive=True)]
    words = [word for member in family for word in member.cmdline()]
    assert "search.ui" in words
    assert not [word for word in (*words, *opened.typed) if opened.token in word]
    (leads,) = opened.typed
    file = Path(leads.removeprefix("file://"))
    assert opened.token in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.browser
def test_a_browser_enters_without_typing(opened: Opened, page: Page) -> None:
    page.goto(opened.typed[0])
    expect(page.get_by_text("comparison").first).to_be_visible(timeout=LOAD_MS)
    assert "/#/experiments/" in page.url
    assert opened.token not in page.url
    page.reload()  # by the cookie
    expect(page.get_by_role("link", name="000 depth 8 v1 identity")).to_be_visible(timeout=LOAD_MS)


def test_a_port_in_use_is_refused(opened: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["digits", "--output", str(opened.folder / "results"), "--no-browser", "--port"]
    port = urlsplit(opened.address).port
    assert main([*arguments, str(port)]) == 2
    assert capsys.readouterr().err == f"error: --port = {port} is in use; give another --port\n"
    assert main([*arguments, "70000"]) == 2
    assert "--port = 70000 cannot be used" in capsys.readouterr().err


def test_the_file_goes_with_the_command(opened: Opened) -> None:
    """The last: it ends it, while a browser is at its pages."""
    assert list((opened.folder / "results").glob("*.html"))
    started = psutil.Process(opened.process.pid).children(recursive=True)
    opened.process.send_signal(signal.SIGTERM)
    assert opened.process.wait(60) == 0
    assert not list((opened.folder / "results").glob("*.html"))
    assert [child for child in started if child.is_running()] == []


@pytest.mark.parametrize("end", [signal.SIGHUP, signal.SIGINT], ids=["closed terminal", "Ctrl-C"])
def test_a_study_that_has_just_begun(tmp_path: Path, end: signal.Signals) -> None:
    """It is awaited, also where MLflow's tables are not yet there, and shown before a trial has a result."""
    study = begun(tmp_path / "results")
    (tmp_path / "results" / "mlflow.db").unlink()
    command = [sys.executable, "-m", "search.ui", "--port", "0", "--no-browser"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
    told = (tmp_path / "log").read_text
    wait_until(lambda: "waiting for `python -m search.run`" in told(), "the line", 200)
    assert "http://" not in told()
    assert told().startswith("digits: opening MLflow's pages (")
    study.sent(lambda study: study.start())
    wait_until(lambda: "trials side by side" in told(), "the addresses", 200)
    process.send_signal(end)
    assert process.wait(60) == 0, told()
