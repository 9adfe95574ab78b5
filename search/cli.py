"""The flags of the commands, and what each changes in a study."""

import argparse
import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn

from search import __version__
from search.errors import InputError
from search.spec import Sampler, Scheduler, plain_yaml, shipped
from search.storage import Output
from search.study import KEYS, Changes, specify

if TYPE_CHECKING:
    from search.spec import StudySpec


class Parser(argparse.ArgumentParser):
    """Bad flags are an InputError."""

    def error(self, message: str) -> NoReturn:
        flag = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
        near = get_close_matches(flag[1], self._option_string_actions, n=1) if flag else []
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"{message}; {meant}`{self.prog} --help` lists what can be given")


def parser() -> argparse.ArgumentParser:
    """Every flag. Those in `KEYS`, and --set, set a key of the study."""
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
    add("--dry-run", action="store_true", help="print what would be searched, its time and cost, and train nothing")
    add("--verbose", action="store_true", help="with --dry-run: the whole study too, with every default")
    add("--json", action="store_true", help="print the result, --list or --dry-run as JSON; all else goes to stderr")
    add("--address", metavar="URL", help="of a cluster's job server: the study runs there; default: RAY_ADDRESS")
    add("--stop", action="store_true", help="stop the study's job on the cluster where its trials can be continued")
    add("--version", action="version", version=f"resnet-search {__version__}")
    add("--list", action="store_true", help="name the shipped studies and their scales")
    add("--schema", action="store_true", help="print the JSON Schema of a study's file, for an editor")
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
    if given.stop and (given.fresh or given.sync or given.dry_run):
        raise InputError("--stop only stops; leave out --fresh, --sync and --dry-run")
    return given


def listing() -> list[dict[str, Any]]:
    """Of each shipped study its name, what it is, and its scales."""
    read = {name: plain_yaml.read(path) for name, path in shipped().items()}
    return [
        {"name": name, "description": found["description"], "scales": [*found.get("scales", ())]}
        for name, found in read.items()
    ]


def words(given: argparse.Namespace, leave_out: Collection[str]) -> list[str]:
    """The flags as they can be typed again, but for some; `study` is not among them."""
    typed: list[str] = []
    for name, value in vars(given).items():
        if name == "study" or name in leave_out or value is None or value is False:
            continue
        flag = f"--{name.replace('_', '-')}"
        typed += [flag if one is True else f"{flag}={one}" for one in (value if isinstance(value, list) else [value])]
    return typed


def study(given: argparse.Namespace) -> "StudySpec":
    """The study that is asked for.

    Raises:
        InputError: no such study, or one that is not valid.
    """
    return specify(given.study, given.output, given.scale, settings(given), changes(given))


def changes(given: argparse.Namespace) -> Changes:
    """What the flags say that stand for a key of a study."""
    found: dict[str, Any] = {flag: getattr(given, flag) for flag in KEYS}
    if given.epochs is not None:  # it has no type until the space is made, and is compared with what a file says
        found["epochs"] = plain_yaml.setting(f"train.epochs={given.epochs}", "--epochs")[1]
    return Changes(**found)


def settings(given: argparse.Namespace) -> dict[str, Any]:
    """Key of the study -> value, as --set says.

    Raises:
        InputError: --set without `=`, or a value that is no YAML.
    """
    found: dict[str, Any] = {}
    for item in given.set:
        key, value = plain_yaml.setting(item, f"--set {item}")
        found.pop(key, None)  # the last one counts, in its place
        found[key] = value
    return found
