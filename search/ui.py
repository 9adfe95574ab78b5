"""`python -m search.ui [STUDY]`: opens MLflow on the comparison of a study's trials, for this machine only."""

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from search import tracking_database, tracking_uri
from search.errors import Halted, InputError, hint
from search.output import STUDY_FILE, Output
from search.tracking_view import SEEDS

SHOWN = 100  # trials in the comparison, the best first; a longer address breaks in some browsers
START_SECONDS = 120.0  # MLflow's first start on a new machine is slow


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until it is interrupted; for a tracking server it only says where to look. Exit status 2: bad input."""
    console, errors = Console(), Console(stderr=True, soft_wrap=True, highlight=False)
    made = argparse.ArgumentParser(prog="python -m search.ui", description=__doc__)
    made.add_argument("study", nargs="?", help="name of a study in the output folder; default: the latest")
    made.add_argument("--output", type=Output, default=Output("results"), metavar="DIR", help="default: results")
    made.add_argument("--port", type=int, default=5000, help="default: 5000")
    made.add_argument("--no-browser", action="store_true", help="print the address only")
    given = made.parse_args(arguments)
    try:
        return _open(given, console)
    except (InputError, Halted) as error:
        errors.print(f"error: {error}", markup=False)
        return 2
    except KeyboardInterrupt:
        return 0


def _open(given: argparse.Namespace, console: Console) -> int:
    output: Path = given.output.path
    folder = _fetched(given.output, given.study) if given.output.url else _folder(output, given.study)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    settings = yaml.safe_load((folder / "study.yaml").read_text())
    uri = settings["tracking"]["uri"] or tracking_uri.default_uri(output)
    root = tracking_uri.artifact_root(uri, output)
    if root is None:
        _show(console, uri, report, browser=not given.no_browser)
        return 0
    base = f"http://127.0.0.1:{given.port}"
    if _answers(base):
        raise InputError(f"--port = {given.port} is in use; give another --port")
    tracking_database.follow(uri, root)
    server = subprocess.Popen(tracking_uri.ui_arguments(uri, root, given.port), env=tracking_uri.ui_environment())
    try:
        _await(base, server)
        _show(console, base, report, browser=not given.no_browser)
        return server.wait()
    finally:
        server.terminate()
        server.wait()


def _fetched(output: Output, study: str | None) -> Path:
    if study is None:
        raise InputError(f"output = {str(output)!r} is a URL; name the study that is kept there")
    found = [output.file(study, name) for name in ("report.json", STUDY_FILE)]
    if found[0] is None:
        raise InputError(f"study {study!r} has no report in {output}; correct the name, or --output")
    return found[0].parent


def _folder(output: Path, study: str | None) -> Path:
    found = sorted(output.glob("*/report.json"), key=lambda path: path.stat().st_mtime)
    names = [path.parent.name for path in found]
    if not names:
        raise InputError(
            f"output = {str(output)!r} holds no finished study; run `python -m search.run` or name --output"
        )
    if study is not None and study not in names:
        raise InputError(f"study {study!r} has no report in {output}; {hint(study, names)}")
    return output / (study or names[-1])


def _show(console: Console, base: str, report: dict[str, Any], browser: bool) -> None:
    finals: dict[str, Any] = report.get("finals") or {"compared": False}
    trials = [t for t in report["trials"] if t["mlflow_run_id"] and t["val_error"] is not None]
    trials.sort(key=lambda t: (t["state"] != "complete", t["val_error"]))
    compared = [f for f in finals["finalists"] if f["mlflow_run_id"]] if finals["compared"] else []
    runs = [t["mlflow_run_id"] for t in (*trials, *compared)][:SHOWN]
    if not runs:
        raise InputError(f"study {report['study']!r} has no trial in MLflow; run the same search again to send them")
    experiment, study = tracking_uri.place(base, runs[0])
    compare = tracking_uri.compare_url(base, experiment, runs)
    name = report["study"]
    charts = tracking_uri.view_url(base, experiment, study, charts=True)
    seeds = tracking_uri.view_url(base, experiment, study + SEEDS, charts=True)
    for words, address in (
        (f"{name}: parallel coordinates and learning curves", charts),
        ("table of trials", tracking_uri.view_url(base, experiment, study, charts=False)),
        ("trials side by side", compare),
        *([("finalists, mean over seeds", seeds)] if "finalists" in finals else []),
    ):
        console.print(f"{words}\n  {address}", soft_wrap=True, highlight=False)
    if browser:
        webbrowser.open(charts)


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/health", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _await(base: str, server: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_SECONDS
    while not _answers(base):
        if server.poll() is not None or time.monotonic() > end:
            raise InputError(f"MLflow did not start on {base}; its message stands above")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
