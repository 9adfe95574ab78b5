"""`python -m search.ui [STUDY]`: opens MLflow on the comparison of a study's trials, for whoever has typed it."""

import argparse
import errno
import html
import os
import signal
import socket
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from search import study, tracking
from search.activity import Activity, run_alone
from search.cli import Parser, failed
from search.errors import Halted, InputError, public
from search.formatting import say
from search.storage import Output, layout, replica
from search.tracking import Cursor, Store

_LOOK_SECONDS = 0.5  # how often is looked whether a study has begun


def parser() -> Parser:
    """Its flags."""
    made = Parser("ui", "Opens MLflow on the comparison of the trials of a study, for you alone.")
    made.add_begun("name of a study in --output; default: the latest", nargs="?")
    made.add_argument("--port", type=int, default=5000, help="default: 5000")
    made.add_argument("--no-browser", action="store_true", help="print the address only")
    return made


def main(arguments: Sequence[str] | None = None, activity: Activity | None = None) -> int:
    """Serves until it is interrupted; for a tracking server it only says where to look. Exit status: see `failed`."""
    activity = activity or Activity()
    try:
        return _open(parser().parse_args(arguments), Console(), activity)
    except (InputError, Halted) as error:
        return failed(error, activity)
    except KeyboardInterrupt:
        return 0


def _open(given: argparse.Namespace, console: Console, activity: Activity) -> int:
    name = given.study or _latest(given.output)
    asked, given_now = study.spec_of(given.output, name).tracking, os.environ.get("MLFLOW_TRACKING_URI", "")
    # with the password, which the study's file does not keep
    uri = given_now if public(given_now) == asked.uri else asked.uri
    store = Store.chosen(uri, asked.experiment, given.output)
    if store.remote:
        activity.begin(f"{name}: asking the tracking server for it")
        pages = _pages(activity, given.output, name, store, public(store.uri))
        activity.end()
        charts = _show(console, pages)
        if not given.no_browser:
            webbrowser.open(charts)
        return 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # so that the file below goes, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))  # which the server knows
    with _listening(given.port) as listening:
        activity.begin(f"{name}: opening MLflow's pages")
        server = tracking.PageServer(store)
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        pages = _pages(activity, given.output, name, store, base, server.token)
        activity.end()
        charts = _show(console, pages)
        with _privately(charts, given.output.path) as leads:
            if not given.no_browser:
                webbrowser.open(leads)
            server.serve(listening)
    return 0


def _pages(activity: Activity, output: Output, name: str, store: Store, base: str, token: str = "") -> dict[str, str]:
    """What it is -> address, of MLflow's pages at `base` on a study; one that was just started is awaited."""
    while not (sent := Cursor.parse(replica.read(output.place(name), Cursor.FILE))).study:
        activity.change(f"{name}: waiting for `python -m search.run` to send it to MLflow")
        time.sleep(_LOOK_SECONDS)
    pages = tracking.Pages(base, sent.experiment, sent.study, token)
    return pages.named(name, tracking.ranked(store, sent.study), bool(sent.seeds))


def _latest(output: Output) -> str:
    if output.url is not None:
        raise InputError(f"output = {str(output)!r} is a URL; name the study that is kept there")
    found = sorted(output.path.glob(f"*/{layout.STUDY_FILE}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(f"output = {str(output)!r} holds no study; run `python -m search.run` or name --output")
    return found[-1].parent.name


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


def _show(console: Console, pages: Mapping[str, str]) -> str:
    """Prints the addresses of MLflow's pages; returns the first, that of the charts."""
    for words, address in pages.items():
        say(console, f"{words}\n  {address}", whole=True)
    return next(iter(pages.values()))


if __name__ == "__main__":
    sys.exit(run_alone(main))
