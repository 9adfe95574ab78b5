"""The command line: `python -m search.run [STUDY]`."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from rich.console import Console
from rich.markdown import Markdown

from search import data, tracking_uri
from search.errors import Halted, InputError, halt
from search.interrupt import Interrupt
from search.space import Space
from search.study_folder import StudyFolder
from search.study_sections import Sampler, Scheduler
from search.study_spec import StudySpec, find, load, shipped

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
FLAGS = {  # flag -> where it stands in a study
    "name": "name",
    "trials": "search.trials",
    "epochs": "train.epochs",
    "time_budget": "search.time_budget",
    "data_dir": "data.dir",
    "cpus_per_trial": "resources.cpus_per_trial",
    "gpus_per_trial": "resources.gpus_per_trial",
    "max_concurrent": "search.max_concurrent",
    "seed": "search.seed",
    "sampler": "search.sampler",
    "scheduler": "search.scheduler",
    "storage": "search.storage",
    "tracking_uri": "tracking.uri",
}
ENVIRONMENT = {"MLFLOW_TRACKING_URI": "tracking.uri", "MLFLOW_EXPERIMENT_NAME": "tracking.experiment"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; `python -m search.run --help` lists what can be given")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns the exit status: 0 done; 1 no trial worked, or halted; 2 bad input; 130 interrupted.
    """
    console, errors = Console(), Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        given = parser().parse_args(arguments)
        if given.list:
            for name, path in shipped().items():
                console.print(f"{name}: {load(path).description}", highlight=False, soft_wrap=True)
            return DONE
        return _run(given, console)
    except InputError as error:
        errors.print(f"error: {error}", markup=False)
        return BAD_INPUT
    except Halted as cause:
        errors.print(f"error: {cause}, and run the same command again: it continues", markup=False)
        return FAILED
    except KeyboardInterrupt:
        errors.print("interrupted at once; run the same command again to continue")
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Every flag. All but the study's name, --output, --dry-run and --list set a key of the study."""
    made = _Parser(
        prog="python -m search.run", description="Which residual network should I use? Searches, and answers."
    )
    add = made.add_argument
    add("study", nargs="?", default="digits", help="a shipped study (--list) or a YAML file; default: digits")
    add("--name", help="of the study and its folder; a name that exists is continued")
    add("--output", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    add("--trials", metavar="N", help="trials in all")
    add("--epochs", metavar="N", help="epochs of a complete trial")
    add("--time-budget", metavar="TIME", help="90s, 30m, 2h: the study ends then, with what it has")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="train.lr=0.1 or 'space.net.depth=[20,32]'; repeatable",
    )
    add("--data-dir", metavar="DIR", help="where raw data sets are, or are downloaded to")
    add("--cpus-per-trial", metavar="N", help="default: 1")
    add("--gpus-per-trial", metavar="N", help="1, a fraction such as 0.25, or auto; default: auto")
    add("--max-concurrent", metavar="N", help="trials at once; default: as many as fit")
    add("--seed", metavar="N", help="of the search")
    add("--sampler", metavar="NAME", help=" | ".join(Sampler))
    add("--scheduler", metavar="NAME", help=" | ".join(Scheduler))
    add("--storage", metavar="URL", help="Optuna storage; default: a journal file in the study's folder")
    add("--tracking-uri", metavar="URI", help="MLflow; default: a database below --output")
    add("--dry-run", action="store_true", help="print what would be searched, and train nothing")
    add("--list", action="store_true", help="name the shipped studies")
    return made


def changes(given: argparse.Namespace, environment: dict[str, str]) -> list[tuple[str, Any]]:
    """(key of the study, value), the weaker first: environment, --set, flags.

    Raises:
        InputError: --set without `=`, or a value that is no YAML.
    """
    found: list[tuple[str, Any]] = [(ENVIRONMENT[k], v) for k, v in environment.items() if k in ENVIRONMENT and v]
    for item in given.set:
        key, equals, text = item.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {item} has no `=`; write --set KEY=VALUE, such as --set train.lr=0.1")
        found.append((key.strip(), _value(f"--set {item}", text)))
    for flag, key in FLAGS.items():
        text = getattr(given, flag)
        if text is not None:  # train.* has no type until the space is made, and is compared with what a file says
            found.append((key, _value(f"--{flag}", text) if key.startswith("train.") else text))
    return found


def _value(where: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"{where}: {text!r} cannot be read; write a number, a word or a [list]") from None


def _run(given: argparse.Namespace, console: Console) -> int:
    from search import host, preflight, preview  # these import torch; bad flags are told before

    spec = load(find(given.study), changes(given, dict(os.environ)))
    info = data.check(spec.data)
    space = spec.make_space(info.shape, len(info.classes))
    space.check(info.shape[:2])
    proposer = preflight.check(spec, space, info.shape[:2])
    if host.address() is None:
        host.share(spec.resources, spec.search)
    if given.dry_run:
        preview.show(console, spec, space, info, proposer)
        return DONE
    preflight.open_elsewhere(spec)
    folder = StudyFolder.enter(given.output, spec.name)
    try:
        return _study(given, spec, space, folder, console)
    except OSError as error:
        halted = halt(error, folder.path)
        if halted is None:
            raise
        raise halted from None
    finally:
        folder.leave()


def _study(given: argparse.Namespace, spec: StudySpec, space: Space, folder: StudyFolder, console: Console) -> int:
    from search.study import Study

    uri = spec.tracking.uri or tracking_uri.default_uri(given.output)
    tracking_uri.check_reachable(uri, spec.tracking.experiment)
    prepared = data.prepare(spec.data)
    folder.settle(spec)
    root = tracking_uri.artifact_root(uri, given.output)
    study = Study(spec, space, prepared, folder, uri, root)
    shown = given.output / spec.name
    _announce(console, study, shown)
    outcome = study.concluded()
    if outcome is None:
        with Interrupt() as interrupt:
            outcome = study.run(console, interrupt)
    if outcome.interrupted:
        console.print(
            f"stopped after {study.finished} of {spec.search.trials} trials; run the same command again to continue"
        )
        return INTERRUPTED
    console.print(Markdown(outcome.answer) if console.is_terminal else outcome.answer, markup=False, soft_wrap=True)
    if outcome.unsent:
        console.print(f"{outcome.unsent}; run the same command again to send them", highlight=False, soft_wrap=True)
    console.print(f"Report:            {shown / 'report.html'}", highlight=False, soft_wrap=True)
    console.print(f"Compare in MLflow: {_compare(given.output, spec.name)}", highlight=False, soft_wrap=True)
    return DONE if outcome.worked else FAILED


def _compare(output: Path, name: str) -> str:
    python = Path(sys.executable)
    shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    elsewhere = [] if output == Path("results") else ["--output", str(output)]
    return shlex.join([str(shown), "-m", "search.ui", name, *elsewhere])


def _announce(console: Console, study: Any, path: Path) -> None:
    name, wanted = study.spec.name, study.spec.search.trials
    done = study.finished
    if study.complete:
        more = study.ledger.exhausted or f"for more of them: --trials {2 * done}"
        text = f"{name}: complete, {done} trials in {path}; {more}"
    elif done:
        text = f"{name}: continued after {done} of {wanted} trials in {path}"
    else:
        text = f"{name}: {wanted} trials of up to {study.spec.epochs} epochs, in {path}"
    console.print(text, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
