"""A whole study whose tracking server fails half the calls, then hangs, then dies and comes back."""

import itertools
import os
from pathlib import Path

import pytest

from tests.support.mlflow_server import Proxy, Server
from tests.support.sent import compare
from tests.support.study_process import command, start, wait_until
from tests.support.whole import report_of

pytestmark = [pytest.mark.slow, pytest.mark.long]
TRIALS = 5
TRAIN = {"epochs": 6, "batch_size": 16, "flip": False}


@pytest.mark.timeout(600)
def test_a_study_goes_through_every_trouble_of_its_server(tmp_path: Path) -> None:
    """The trials end meanwhile; at last the server has every metric on record once, and nothing else."""
    calls, fates = itertools.count(), ["pass", "lose", "pass", "refuse"]
    seen: list[str] = []

    def fate(method: str, path: str) -> str:
        seen.append(fates[next(calls) % len(fates)])
        return seen[-1]

    server = Server(tmp_path)
    server.start()
    proxy = Proxy(server.url, fate)
    arguments = command(tmp_path, "--trials", f"{TRIALS}", "--scheduler", "none", train=TRAIN)
    patience = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}  # seconds
    try:
        process, log = start(tmp_path, [*arguments, "--tracking-uri", proxy.url], os.environ | patience)
        wait_until(lambda: "[1/5]" in log.read_text() and {"lose", "refuse"} <= {*seen}, process, log)
        fates[:] = ["hold"]
        wait_until(lambda: "[2/5]" in log.read_text() and len(proxy.held) > 0, process, log)
        server.kill()
        fates[:] = ["pass"]  # of what is not there
        wait_until(lambda: "[3/5]" in log.read_text(), process, log)
        server.start()
        proxy.release.set()  # what was given up arrives, late
        assert process.wait(240) == 0, log.read_text()
        assert len(report_of(tmp_path)["trials"]) == TRIALS
        assert "--sync" not in log.read_text()
        sent = compare(tmp_path / "results" / "tiny", server.url)
        assert (sent.runs, sent.missing, sent.foreign) == (TRIALS + 1, 0, 0)
        assert sent.points >= TRIALS * TRAIN["epochs"] * 4  # at the least loss and error of both splits
    finally:
        proxy.close()
        server.kill()
