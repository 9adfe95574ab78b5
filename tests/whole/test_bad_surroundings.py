"""Data, folders and servers that cannot be used: one sentence with field, value and remedy, exit status 2."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from search.records import StudyFolder
from search.storage import Output
from tests.support.fixtures import alone, refusal  # noqa: F401
from tests.support.study_process import outcome

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("alone")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "images"], ["images", "class"]),
        (["--set", "data.name=npz:small.npz"], ["image size 2x2 does not survive the strides", "at least 4x4"]),
        (["--output", "occupied/results"], ["'occupied/results' cannot be written", "choose another --output"]),
        (["--output", "/proc/sys"], ["'/proc/sys' cannot be written", "choose another --output"]),  # even for root
        (["--stop"], ["--address"]),
        (["--stop", "--fresh"], ["leave out"]),
    ],
    ids=str,
)
def test_what_cannot_be_used(arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of images without classes, images that do not survive the strides, a file in the place of a folder."""
    Path("images/train").mkdir(parents=True)
    pixels, labels = np.zeros((20, 2, 2), np.uint8), np.arange(20) % 2
    np.savez("small.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    Path("occupied").write_text("")
    sentence = refusal(arguments, capsys)
    assert [word for word in words if word not in sentence] == []


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that refuses: bound by us, so nobody else has it, and not listened on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def test_tracking_server_that_does_not_answer(
    nobody: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_flag = refusal(["--tracking-uri", nobody], capsys)
    assert f"'{nobody}' does not answer" in by_flag
    assert "--tracking-uri" in by_flag
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nobody)
    assert refusal([], capsys) == by_flag


def test_job_server_that_does_not_answer(
    nobody: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", nobody)
    began = time.monotonic()
    sentence = refusal(["--output", "/shared"], capsys)
    assert time.monotonic() - began < 50, "Ray itself would try for minutes"
    assert f"RAY_ADDRESS = {nobody} does not answer" in sentence
    assert "ssh -L" in sentence
    assert refusal(["--stop"], capsys) == sentence


def test_bad_input_is_told_before_a_job_server_is_asked(
    nobody: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", nobody)
    assert "did you mean 'net.depth'" in refusal(["--set", "space.net.dept=[8]"], capsys)
    assert "net depth 57" in refusal(["--set", "space.net.depth=[57]"], capsys)
    assert "there is no such file" in refusal(["mine.yaml"], capsys)
    secret = refusal(["--tracking-uri", "http://ann:hidden@mlflow:5000"], capsys)
    assert "its password would be seen by everybody on the cluster" in secret
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:hidden@mlflow:5000")
    assert "MLFLOW_TRACKING_URI" in refusal([], capsys)
    assert "hidden" not in secret + refusal([], capsys)


def test_second_process_on_one_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holds = "import sys; from search.storage.remote import Output; from search.records.folder import StudyFolder; "
    holds += "folder = StudyFolder.enter(Output(sys.argv[1]), 'digits'); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holds, str(tmp_path / "results")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        sentence = refusal([], capsys)
        assert f"process {holder.pid}" in sentence
        assert "'digits'" in sentence
        assert "--name" in sentence
        holder.communicate("")
    StudyFolder.enter(Output("results"), "digits").leave()  # free again when the process is gone


def test_as_a_process_of_its_own(tmp_path: Path) -> None:
    """No Ray is started: none of its processes, and no child at all, is there while bad input is refused."""
    command = [sys.executable, "-m", "search.run", "--set", "space.net.depth=[57]", "--output", str(tmp_path / "out")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "RAY_TMPDIR": str(tmp_path / "ray")}
    process = psutil.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = process.communicate()
    assert process.returncode == 2
    assert out == ""
    assert outcome(err) == "error: net depth 57 is not 6n+2 for unit=basic; the nearest valid depths are 56 and 62\n"
    assert not (tmp_path / "ray").exists(), "where Ray would keep its session"
    assert not (tmp_path / "out").exists()
