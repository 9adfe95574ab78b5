"""The command line: `python -m search.run [STUDY]`."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markdown import Markdown

from search import cli, cluster, data, execution, records, tracking
from search import study as studies
from search.errors import Halted, InputError, halt, without_credentials
from search.storage import Output

if TYPE_CHECKING:
    from search.records import StudyFolder
    from search.spec import Space, StudySpec
    from search.study import Study

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns the exit status: 0 done; 1 no trial worked, halted, or not all could be sent; 2 bad input; 130 interrupted.
    """
    console, errors = Console(), Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        given = cli.parse(arguments)
        if given.list:
            for line in cli.listing():
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            return DONE
        server = cluster.job_server(given)
        if server is not None:
            return cluster.submit(given, server, console)
        if given.check_cluster:
            return cluster.check_cluster(given, console)
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
    spec = cli.study(given, dict(os.environ))
    records.StudyFolder.check_apart(given.output, spec.name, spec.data)
    info, space, proposer = studies.planned(spec)
    if execution.address() is None and not given.sync:
        execution.share(spec.resources, spec.search)
    if given.dry_run:
        from search import dry_run  # imports torch

        dry_run.show(console, spec, space, info, proposer)
        return DONE
    cluster.check_shared(given, spec)
    studies.open_elsewhere(spec)
    uri = tracking.chosen(spec.tracking.uri, given.output)
    folder = records.StudyFolder.enter(given.output, spec.name)
    try:
        if given.fresh:
            studies.check_told(folder, spec, given.yes)
        return _study(given, spec, space, folder, uri, console)
    except OSError as error:
        halted = halt(error, folder.place)
        if halted is None:
            raise
        raise halted from None
    finally:
        folder.leave()


def _study(
    given: argparse.Namespace, spec: "StudySpec", space: "Space", folder: "StudyFolder", uri: str, console: Console
) -> int:
    try:
        tracking.check_reachable(uri, spec.tracking.experiment)
    except tracking.NoAnswer as away:
        if (
            given.sync
            or given.fresh
            or not tracking.tracked_at(folder.path, tracking.store(uri, spec.tracking.experiment))
        ):
            raise
        fault = str(away).partition(";")[0]
        console.print(f"{fault}; the study goes on, and keeps what it is to be sent", highlight=False, soft_wrap=True)
    prepared = data.prepare(spec.data)
    if given.fresh and given.yes:
        if execution.address() is not None:
            with execution.connected(spec.resources, spec.search):
                pass  # for what it refuses
        for path in studies.delete_study(folder, spec):  # last, after all that may be refused
            console.print(f"not of the study, and kept: {path}", markup=False, highlight=False, soft_wrap=True)
    if not given.sync:
        folder.settle(spec)
    root = tracking.artifact_root(uri, given.output.path)
    study = studies.Study(spec, space, prepared, folder, uri, root)
    shown = folder.place if given.output.url else given.output.path / spec.name
    if given.sync:
        return _sync(study, tracking.store(uri, spec.tracking.experiment), console)
    _announce(console, study, shown)
    outcome = study.concluded()
    if outcome is None:
        with execution.Interrupt() as interrupt:
            outcome = study.run(console, interrupt)
    if outcome.interrupted:
        console.print(f"stopped after {_reached(study)}; run the same command again to continue")
        return INTERRUPTED
    console.print(Markdown(outcome.answer) if console.is_terminal else outcome.answer, markup=False, soft_wrap=True)
    if outcome.unsent:
        send = _command("search.run", given.output, spec.name, "--sync")
        console.print(f"{outcome.unsent}; to send them: {send}", highlight=False, soft_wrap=True)
    copy = f", and here in {folder.path}" if given.output.url else ""
    if study.champion is not None and outcome.trouble is None:
        place = study.champion if given.output.url else f"{shown}/{study.champion.name}"
        console.print(f"Champion:          {place}", highlight=False, soft_wrap=True)
    console.print(f"Report:            {shown}/report.html{copy}", highlight=False, soft_wrap=True)
    console.print(
        f"Compare in MLflow: {_command('search.ui', given.output, spec.name)}", highlight=False, soft_wrap=True
    )
    if outcome.trouble:
        raise Halted(outcome.trouble)
    return DONE if outcome.worked else FAILED


def _sync(study: "Study", store: str, console: Console) -> int:
    before, behind = study.unsent, study.behind(study_too=True)
    outcome = study.sync()
    unsent = outcome.unsent
    if unsent:
        told = f"{unsent}; run the same command again"
    elif behind:
        told = f"{store} lacked runs or epochs that it had been sent; everything was sent again"
    else:
        told = f"{before or 'no'} events were left to send to {store}"
    console.print(told, highlight=False, soft_wrap=True)
    if outcome.interrupted:
        reached = f"{study.spec.name} is not complete, after {_reached(study)}; without --sync the command continues it"
        console.print(reached, highlight=False, soft_wrap=True)
    if outcome.trouble:
        raise Halted(outcome.trouble)
    return FAILED if unsent else DONE


def _command(module: str, output: Output, name: str, *flags: str) -> str:
    """What to type in a shell, here."""
    python = Path(sys.executable)
    shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    elsewhere = [] if output == Output("results") else ["--output", str(output)]
    return shlex.join([str(shown), "-m", module, name, *elsewhere, *flags])


def _reached(study: "Study") -> str:
    if study.search.complete:
        return f"{study.finals.trained} trainings of the finals"
    return f"{study.finished} of {study.spec.search.trials} trials"


def _announce(console: Console, study: "Study", path: Path | str) -> None:
    name, wanted = study.spec.name, study.spec.search.trials
    done, finals, stage = study.finished, study.spec.finals, study.finals
    if study.spec.compare:
        rows = f"{len(study.spec.compare)} configurations"
        if study.complete:
            text = f"{name}: complete, {stage.trained} trainings of {rows} in {path}"
        elif stage.trained:
            text = f"{name}: continued after {stage.trained} trainings of {rows} in {path}"
        else:
            text = f"{name}: {rows}, {finals.seeds} seeds, {study.spec.epochs} epochs each, in {path}"
    elif study.complete:
        more = study.ledger.exhausted or f"for more of them: --trials {2 * done}"
        text = f"{name}: complete, {done} trials in {path}; {more}"
    elif study.search.complete:
        text = f"{name}: its finals are continued after {done} trials in {path}"
    elif done:
        text = f"{name}: continued after {done} of {wanted} trials in {path}"
    else:
        text = f"{name}: {wanted} trials of up to {study.spec.epochs} epochs, in {path}"
    console.print(text, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
