"""`python -m search.ui [STUDY]`: opens MLflow on the comparison of a study's trials, for whoever has typed it."""

import argparse
import errno
import html
import os
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from search.errors import Halted, InputError, hint, public
from search.spec import load
from search.storage import Output, files, layout
from search.tracking import Pages, PageServer, Store

SHOWN = 100  # trials in the comparison, the best first; a longer address breaks in some browsers


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
    report = files.json_object(folder / "report.json")
    if not report:
        raise InputError(f"{folder / 'report.json'} is damaged; make it again: `python -m search.report {folder.name}`")
    asked = load(folder / layout.STUDY_FILE).tracking
    given_now = os.environ.get("MLFLOW_TRACKING_URI", "")
    # with the password of a database, which the study's file does not keep
    uri = given_now if public(given_now) == asked.uri else asked.uri
    store = Store.chosen(uri, asked.experiment, given.output)
    if store.remote:
        charts = _show(console, store.uri, store.uri, report)
        if not given.no_browser:
            webbrowser.open(charts)
        return 0
    with _listening(given.port) as listening, ExitStack() as at_end:
        server = PageServer(store)
        charts = _show(console, store.uri, f"http://127.0.0.1:{listening.getsockname()[1]}", report, server.token)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the file below goes, too
        if not given.no_browser:
            webbrowser.open(at_end.enter_context(_privately(charts, output)))
        server.serve(listening)
    return 0


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        fault = "is in use" if getattr(error, "errno", None) == errno.EADDRINUSE else f"cannot be used ({error})"
        raise InputError(f"--port = {port} {fault}; give another --port") from None


@contextmanager
def _privately(address: str, folder: Path) -> Iterator[str]:
    """The address of a file that leads there: the command line of a browser is seen by every user of the machine."""
    leads = f'<!doctype html><title>MLflow</title><meta http-equiv="refresh" content="0;url={html.escape(address)}">'
    # Browsers that are kept from /tmp may read what their user keeps at home.
    with tempfile.NamedTemporaryFile("w", prefix="mlflow-", suffix=".html", dir=folder) as file:  # for its owner alone
        file.write(leads)
        file.flush()
        yield Path(file.name).absolute().as_uri()


def _fetched(output: Output, study: str | None) -> Path:
    if study is None:
        raise InputError(f"output = {str(output)!r} is a URL; name the study that is kept there")
    found = [output.file(study, name) for name in ("report.json", layout.STUDY_FILE)]
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


def _show(console: Console, uri: str, base: str, report: dict[str, Any], token: str = "") -> str:
    """Prints the addresses of the pages at `base`, where the runs are that are kept at `uri`; that of the charts."""
    finals: dict[str, Any] = report.get("finals") or {"compared": False}
    trials = [t for t in report["trials"] if t["mlflow_run_id"] and t["val_error"] is not None]
    trials.sort(key=lambda t: (t["state"] != "complete", t["val_error"]))
    compared = [f for f in finals["finalists"] if f["mlflow_run_id"]] if finals["compared"] else []
    runs = [t["mlflow_run_id"] for t in (*trials, *compared)][:SHOWN]
    if not runs:
        raise InputError(f"study {report['study']!r} has no trial in MLflow; run the same search again to send them")
    pages = Pages.of(uri, runs[0], base, token)
    for words, address in (
        (f"{report['study']}: parallel coordinates and learning curves", pages.charts),
        ("table of trials", pages.table),
        ("trials side by side", pages.comparison(runs)),
        *([("finalists, mean over seeds", pages.seeds)] if "finalists" in finals else []),
    ):
        console.print(f"{words}\n  {address}", soft_wrap=True, highlight=False)
    return pages.charts


if __name__ == "__main__":
    sys.exit(main())
