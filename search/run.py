"""The command line: `python -m search.run [STUDY]`."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markdown import Markdown

from search import cli, cluster, data, export, spec, study
from search.errors import Halted, InputError, without_credentials
from search.storage import Output

if TYPE_CHECKING:
    from search.study import Result, Study

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns the exit status: 0 done; 1 no trial worked, halted, or not all could be sent; 2 bad input; 130 interrupted.
    """
    console, errors = Console(), Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        given = cli.parse(arguments)
        if given.list or given.schema:
            for line in cli.listing() if given.list else [json.dumps(spec.schema(), indent=1)]:
                _say(console, line)
            return DONE
        server = cluster.job_server(given)
        if server is not None:
            return cluster.submit(given, server, console)
        return _run(given, console)
    except InputError as error:
        errors.print(f"error: {without_credentials(str(error))}", markup=False)
        return BAD_INPUT
    except Halted as cause:
        errors.print(without_credentials(cause.sentence), markup=False)
        return FAILED
    except KeyboardInterrupt:
        errors.print("interrupted at once; run the same command again to continue")
        return INTERRUPTED


def _run(given: argparse.Namespace, console: Console) -> int:
    if given.sync:
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

        with study.unchanged():
            dry_run.show(console, asked.spec)
        return DONE
    cluster.check_shared(given, asked.spec)
    return _told(asked, asked.run(), console)


def _told(study: "Study", result: "Result", console: Console) -> int:
    if result.interrupted:
        console.print(f"stopped after {result.reached}; run the same command again to continue")
        return INTERRUPTED
    console.print(Markdown(result.answer) if console.is_terminal else result.answer, markup=False, soft_wrap=True)
    if result.unsent:
        _say(console, f"{result.unsent}; to send them: {_command('search.run', study, '--sync')}")
    if study.champion is not None and result.trouble is None:
        place = study.champion if study.output.url else study.folder / study.champion.name
        _say(console, f"Champion:          {place}{export.lacks(place)}")
    copy = f", and here in {study.folder}" if study.output.url else ""
    _say(console, f"Report:            {study.place}/report.html{copy}")
    _say(console, f"Compare in MLflow: {_command('search.ui', study)}")
    if result.trouble:
        raise Halted(result.trouble)
    return DONE if result.worked else FAILED


def _sync(given: argparse.Namespace, console: Console) -> int:
    asked = cli.study(given)
    try:
        begun = study.Study.open(asked.name, output=given.output, storage=asked.search.storage)
    except InputError as fault:
        raise InputError(f"--sync: {fault}") from None
    result, sent = begun.sync(dict(study.changed(cli.settings(given), cli.changes(given))))
    _say(console, sent)
    if result.interrupted:
        _say(console, f"{begun.name} is not complete, after {result.reached}; without --sync the command continues it")
    if result.trouble:
        raise Halted(result.trouble)
    return FAILED if result.unsent else DONE


def _say(console: Console, line: str) -> None:
    """Prints a line as it is, whatever its length."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _command(module: str, study: "Study", *flags: str) -> str:
    """What to type in a shell, here."""
    python = Path(sys.executable)
    shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    elsewhere = [] if study.output == Output("results") else ["--output", str(study.output)]
    return shlex.join([str(shown), "-m", module, study.name, *elsewhere, *flags])


if __name__ == "__main__":
    sys.exit(main())
