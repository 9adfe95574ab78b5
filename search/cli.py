"""The flags of the commands, and what each changes in a study."""

import argparse
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from search import spec
from search.errors import InputError
from search.spec import Sampler, Scheduler, find, read, shipped
from search.storage import STUDY_FILE, Output

if TYPE_CHECKING:
    from search.spec import StudySpec

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


class Parser(argparse.ArgumentParser):
    """Bad flags are an InputError."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; `{self.prog} --help` lists what can be given")


def parser() -> argparse.ArgumentParser:
    """Every flag. Those in `FLAGS`, and --set, set a key of the study."""
    made = Parser(
        prog="python -m search.run", description="Which residual network should I use? Searches, and answers."
    )
    add = made.add_argument
    add(
        "study",
        nargs="?",
        default="digits",
        help="a shipped study (--list), a YAML file, or the name of a study in --output; default: digits",
    )
    add("--name", help="of the study and its folder; a name that exists is continued")
    add("--output", type=Output, default=Output("results"), metavar="DIR", help="a folder or a URL; default: results")
    add("--trials", metavar="N", help="trials in all")
    add("--epochs", metavar="N", help="epochs of a complete trial")
    add("--scale", metavar="NAME", help="a smaller scale of a study that has some (--list); default: the full recipe")
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
    add("--fresh", action="store_true", help="begin the study again; deletes what there is of it only with --yes")
    add("--yes", action="store_true", help="delete what --fresh has named")
    add("--sync", action="store_true", help="send to MLflow what a study has left unsent, and train nothing")
    add("--dry-run", action="store_true", help="print what would be searched and its cost, and train nothing")
    add("--address", metavar="URL", help="of a cluster's job server: the study runs there; default: RAY_ADDRESS")
    add("--stop", action="store_true", help="stop the study's job on the cluster where its trials can be continued")
    add("--check-cluster", action="store_true", help="compare the cluster's nodes, and train nothing")
    add("--list", action="store_true", help="name the shipped studies and their scales")
    return made


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags that were given; `arguments`: those of this process by default.

    Raises:
        InputError: unknown ones, or ones that exclude each other.
    """
    given = parser().parse_args(arguments)
    if given.yes and not given.fresh:
        raise InputError("--yes confirms --fresh; give both, or neither")
    if given.sync and (given.fresh or given.dry_run):
        raise InputError("--sync only sends; leave out --fresh and --dry-run")
    if given.stop and (given.fresh or given.sync or given.dry_run or given.check_cluster):
        raise InputError("--stop only stops; leave out --fresh, --sync, --dry-run and --check-cluster")
    return given


def listing() -> Iterator[str]:
    """A line for each shipped study: its name, what it is, and its scales."""
    for name, path in shipped().items():
        study = read(path)
        scales = f" --scale {' | '.join(study['scales'])}" if "scales" in study else ""
        yield f"{name}{scales}: {study['description']}"


def words(given: argparse.Namespace, leave_out: Collection[str]) -> list[str]:
    """The flags as they can be typed again, but for some; `study` is not among them."""
    typed: list[str] = []
    for name, value in vars(given).items():
        if name == "study" or name in leave_out or value is None or value is False:
            continue
        flag = f"--{name.replace('_', '-')}"
        typed += [flag if one is True else f"{flag}={one}" for one in (value if isinstance(value, list) else [value])]
    return typed


def study(given: argparse.Namespace, environment: dict[str, str]) -> "StudySpec":
    """The study that is asked for. With --sync it is as its folder holds it, but for where it is tracked and stored.

    Raises:
        InputError: no such study, or one that is not valid.
    """
    asked = changes(given, environment)
    by_name = given.study not in shipped() and Path(given.study).suffix not in (".yaml", ".yml")
    named = given.output.file(given.name or given.study, STUDY_FILE) if by_name else None
    found = spec.load(named or find(given.study), asked, given.scale)
    if not given.sync:
        return found
    kept = given.output.file(found.name, STUDY_FILE)
    if kept is None:
        raise InputError(
            f"--sync: there is no study {found.name!r} in {str(given.output)!r}; correct the name or --output"
        )
    where = ("tracking.", "search.storage")
    return spec.load(kept, [(key, value) for key, value in asked if key.startswith(where)])


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
        return spec.parse(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: cannot be read ({error}); write a number, a word or a [list]") from None
