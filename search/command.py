"""Does what the command line asks for, and prints the outcome."""

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search import cli, cluster, data, export, formatting, spec, study
from search.activity import INTERRUPTED, Activity
from search.errors import Halted, InputError, without_credentials
from search.formatting import say
from search.spec import Objective
from search.storage import Output, files

if TYPE_CHECKING:
    from search.study import Result, Study

DONE, FAILED, BAD_INPUT = 0, 1, 2
TOP = 5  # trials that are shown of a study without finals


def main(arguments: Sequence[str] | None, activity: Activity) -> int:
    """Runs the command line; returns its exit status."""
    console, errors = Console(), Console(stderr=True)
    try:
        given = cli.parse(arguments)
        if given.list or given.schema:
            activity.end()
            if given.schema or given.json:
                _say_json(console, spec.schema() if given.schema else cli.listing())
            else:
                for one in cli.listing():
                    kind = "recipe " if one["kind"] == "recipe" else ""
                    scales = f" --scale {' | '.join(one['scales'])}" if one.get("scales") else ""
                    say(console, f"{kind}{one['name']}{scales}: {one['description']}")
            return DONE
        activity.begin(f"reading study {given.study}, in {given.output}")
        queue = cluster.queue(given)
        if queue is not None:
            activity.end()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # which leaves the job, or its end, to itself
            return cluster.submit(given, queue, console)
        return _run(given, console, activity)
    except InputError as error:
        activity.end()
        say(errors, f"error: {without_credentials(str(error))}")
        return BAD_INPUT
    except Halted as cause:
        activity.end()
        say(errors, without_credentials(cause.sentence))
        return FAILED
    except KeyboardInterrupt:
        errors.print("interrupted at once; run the same command again to continue")
        return INTERRUPTED


def _run(given: argparse.Namespace, console: Console, activity: Activity) -> int:
    if given.sync:
        activity.end()
        return _sync(given, console)
    data.check(cli.study(given).data)  # for what is refused before torch is loaded, which takes seconds
    asked = study.Study.create(
        given.study,
        output=given.output,
        scale=given.scale,
        set=cli.settings(given),
        fresh=given.fresh,
        yes=given.yes,
        **cli.changes(given),
    )
    if given.dry_run:
        from search import dry_run  # noqa: PLC0415  imports torch, which a bad flag does not wait for

        activity.begin("timing the smallest and the largest network")
        with study.unchanged():
            preview = dry_run.Preview.of(asked.spec)
        activity.end()
        if given.json:
            _say_json(console, preview.facts)
            return DONE
        say(console, preview.text)
        if given.verbose:
            say(console, preview.details, whole=True)
        return DONE
    cluster.check_shared(given, asked.spec)
    activity.end()
    if not given.json:
        return _told(asked, asked.run(), console)
    with redirect_stdout(sys.stderr):
        result = asked.run()
        status = _told(asked, result, Console())
    report = files.json_object(asked.folder / "report.json")
    facts = {key: report[key] for key in ("study", "answer", "caveats", "counts", "best", "finals")}
    where = {"champion": asked.champion and str(asked.champion), "report": f"{asked.place}/report.html"}
    _say_json(console, {**facts, **where, "interrupted": result.interrupted})
    return status


def _told(study: "Study", result: "Result", console: Console) -> int:
    if result.interrupted:
        say(console, f"stopped after {result.reached}; run the same command again to continue")
        return INTERRUPTED
    report = files.json_object(study.folder / "report.json")
    say(console, report["answer"])
    if report["stopped"]:
        say(console, f"Ended early: {report['stopped']}.")
    if rows := _rows(report):
        console.print(_table(*rows))
    if result.unsent:
        say(console, f"{result.unsent}; to send them: {_command('search.run', study, '--sync')}")
    if study.champion is not None and result.trouble is None:
        place = study.champion if study.output.url else study.folder / study.champion.name
        say(console, f"Champion:          {place}{export.lacks(place)}", whole=True)
    copy = f", and here in {study.folder}" if study.output.url else ""
    say(console, f"Report:            {study.place}/report.html{copy}", whole=True)
    say(console, f"Compare in MLflow: {_command('search.ui', study)}", whole=True)
    if result.trouble:
        raise Halted(result.trouble)
    return DONE if result.worked else FAILED


def _rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """The head of a table, and what was found: the finalists, or those trials that stand first; [] without any."""
    finals = [one for one in (report["finals"] or {}).get("finalists", ()) if one["mean"] is not None]
    if finals and len(report["pareto"]) < 2:
        found = [(one, one["label"], _error(one["mean"], one["interval"])) for one in finals]
    else:
        tried = [t for t in report["trials"] if t["val_error"] is not None and t["state"] == "complete"]
        tried.sort(key=lambda t: t["val_error"])
        front = [t for t in tried if t["number"] in report["pareto"]]
        found = [(t, None, formatting.percent(t["val_error"])) for t in front or tried[:TOP]]
    split = "test" if finals and len(report["pareto"]) < 2 else "validation"
    error = formatting.error_on(split, Objective(report["settings"]["objectives"][0]).measure)
    rows = [
        (
            label or formatting.network(one["params"]),
            text,
            formatting.magnitude(one["params_count"]),
            formatting.magnitude(one["macs"]),
            *([formatting.milliseconds(one["latency_ms"])] if report["latency"] else []),
        )
        for one, label, text in found
    ]
    timed = ("latency",) if report["latency"] else ()
    return [("network", error, "parameters", "MACs", *timed), *rows] if rows else []


def _error(mean: float, interval: dict[str, float] | None) -> str:
    between = "" if interval is None else f" ({interval['low']:.2f} to {interval['high']:.2f})"
    return f"{formatting.points(mean)} %{between}"


def _table(head: Sequence[str], *rows: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left", no_wrap=place > 0)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _sync(given: argparse.Namespace, console: Console) -> int:
    asked = cli.study(given)
    try:
        begun = study.Study.open(asked.name, output=given.output, storage=asked.search.storage)
    except InputError as fault:
        raise InputError(f"--sync: {fault}") from None
    result, sent = begun.sync(dict(study.changed(cli.settings(given), cli.changes(given))))
    say(console, sent)
    if result.interrupted:
        say(console, f"{begun.name} is not complete, after {result.reached}; without --sync the command continues it")
    if result.trouble:
        raise Halted(result.trouble)
    return FAILED if result.unsent else DONE


def _say_json(console: Console, value: object) -> None:
    say(console, json.dumps(value, indent=1), whole=True)


def _command(module: str, study: "Study", *flags: str) -> str:
    """What to type in a shell, here."""
    python = Path(sys.executable)
    shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    elsewhere = [] if study.output == Output("results") else ["--output", str(study.output)]
    return shlex.join([str(shown), "-m", module, study.name, *elsewhere, *flags])
