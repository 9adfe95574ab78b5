"""The flags of the commands, and what each changes in a study."""

import argparse
import re
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from search import __version__, data, spec
from search.activity import Activity
from search.errors import Halted, InputError
from search.formatting import say
from search.spec import Recipe, Sampler, Scheduler, plain_yaml, shipped
from search.storage import Output, layout
from search.study import KEYS, Changes, data_name, specify

if TYPE_CHECKING:
    from search.spec import StudySpec


PROGRAM = "resnet-search"


def failed(error: InputError | Halted, activity: Activity) -> int:
    """Prints what is wrong in place of what was being done; returns the exit status: 2 for bad input, else 1."""
    activity.end()
    say(Console(stderr=True), f"error: {error}")
    return 2 if isinstance(error, InputError) else 1


class Parser(argparse.ArgumentParser):
    """Bad flags are an InputError. `command`: the word behind `resnet-search`, and a module of search."""

    def __init__(self, command: str, description: str) -> None:
        installed = Path(sys.argv[0]).name == PROGRAM
        super().__init__(
            prog=f"{PROGRAM} {command}" if installed else f"python -m search.{command}", description=description
        )

    def error(self, message: str) -> NoReturn:
        flag = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
        near = get_close_matches(flag[1], self._option_string_actions, n=1) if flag else []
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"{message}; {meant}`{self.prog} --help` lists what can be given")

    def add_begun(self, words: str, **options: Any) -> None:
        """Takes the name of a study that has begun, and where it is."""
        completed(self.add_argument("study", help=words, **options), begun)
        self.add_argument(
            "--output",
            type=Output,
            default=Output("results"),
            metavar="DIR",
            help="a folder or a URL; default: results",
        )


def completed(flag: argparse.Action, by: Callable[..., Iterable[str]]) -> None:
    """What a shell offers for the value of a flag: `argcomplete` calls this with the flags that are given so far."""
    flag.completer = by  # pyright: ignore[reportAttributeAccessIssue]


def begun(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """The studies in --output, where it is a folder."""
    output = Output(str(parsed_args.output))
    return [path.parent.name for path in output.path.glob(f"*/{layout.STUDY_FILE}")] if output.url is None else []


def studies(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Those, the shipped ones, and files."""
    folder = Path(prefix).parent if prefix else Path()
    files = [str(path) for path in folder.glob("*.yaml")]
    return [*shipped(), *begun(parsed_args), *files]


def scales(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Those of a shipped study."""
    file = shipped().get(parsed_args.study)
    return [*plain_yaml.read(file).get("scales", ())] if file else []


def keys(**_: object) -> list[str]:
    """What --set sets."""
    made = spec.schema()

    def inside(field: dict[str, Any]) -> dict[str, Any]:
        named = [one["$ref"].rpartition("/")[2] for one in (field, *field.get("anyOf", ())) if "$ref" in one]
        return (made["$defs"][named[0]] if named else field).get("properties", {})

    return [f"{section}.{key}=" for section, field in made["properties"].items() for key in inside(field)]


def parser() -> Parser:
    """Every flag of a search. Those in `KEYS`, and --set, set a key of the study."""
    made = Parser("run", "Which residual network should I use? Searches, and answers.")
    study = made.add_argument(
        "study",
        nargs="?",
        help="a shipped study (--list), a YAML file, or the name of a study in --output; default: digits, or by --data "
        "photos (a folder, or larger images) or small-images (an archive of up to 64 pixels)",
    )
    completed(study, studies)
    _add_changes(made.add_argument_group("the study"))
    add = made.add_argument_group("where").add_argument
    add("--output", type=Output, default=Output("results"), metavar="DIR", help="a folder or a URL; default: results")
    add("--data", metavar="PATH", help="a folder of images, an .npz archive, or the name of a data set")
    add("--data-dir", metavar="DIR", help="where raw data sets are, or are downloaded to")
    add(
        "--weights-dir", metavar="DIR", help="where torchvision's files of ImageNet weights are; default: torch's cache"
    )
    add("--storage", metavar="URL", help="Optuna storage; default: a journal file in the study's folder")
    add("--tracking-uri", metavar="URI", help="MLflow; default: a database below --output")
    add = made.add_argument_group("the machine, or a cluster").add_argument
    add("--cpus-per-trial", metavar="N", help="default: 1")
    add("--gpus-per-trial", metavar="N", help="1, a fraction such as 0.25, or auto; default: auto")
    add("--max-concurrent", metavar="N", help="trials at once; default: as many as fit")
    add("--address", metavar="URL", help="of a cluster's job server: the study runs there; default: RAY_ADDRESS")
    words = "send it to Slurm: partition=gpu,nodes=4,time=8h; also print=true, which only prints the batch script"
    add("--slurm", metavar="KEY=VALUE,...", help=words)
    add("--stop", action="store_true", help="stop the study's job on the cluster where its trials can be continued")
    add = made.add_argument_group("begin again, or send").add_argument
    add("--fresh", action="store_true", help="begin the study again; deletes what there is of it only with --yes")
    add("--yes", action="store_true", help="delete what --fresh has named")
    add("--sync", action="store_true", help="send to MLflow what a study has left unsent, and train nothing")
    add = made.add_argument_group("print").add_argument
    add("--dry-run", action="store_true", help="print what would be searched, its time and cost, and train nothing")
    add("--verbose", action="store_true", help="with --dry-run: the whole study too, with every default")
    add("--json", action="store_true", help="print the result, --list or --dry-run as JSON; all else goes to stderr")
    add("--list", action="store_true", help="name the shipped studies and their scales")
    add("--schema", action="store_true", help="print the JSON Schema of a study's file, for an editor")
    add("--version", action="version", version=f"{PROGRAM} {__version__}")
    return made


def _add_changes(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    add("--name", help="of the study and its folder; a name that exists is continued")
    add("--trials", metavar="N", help="trials in all")
    add("--epochs", metavar="N", help="epochs of a complete trial")
    add("--time-budget", metavar="TIME", help="90s, 30m, 2h: the study ends then, with what it has")
    words = "studies in --output, whose best are tried first in place of what is known from other data"
    completed(add("--learn-from", nargs="+", action="extend", metavar="NAME", help=words), studies)
    add("--seed", metavar="N", help="of the search")
    completed(add("--sampler", metavar="NAME", help=" | ".join(Sampler)), lambda **_: list(Sampler))
    completed(add("--scheduler", metavar="NAME", help=" | ".join(Scheduler)), lambda **_: list(Scheduler))
    words = "a smaller scale of a study that has some (--list); default: the full recipe"
    completed(add("--scale", metavar="NAME", help=words), scales)
    words = "train.lr=0.1 or 'space.net.depth=[20,32]'; repeatable"
    completed(add("--set", action="append", default=[], metavar="KEY=VALUE", help=words), keys)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags that were given; `arguments`: those of this process by default.

    Raises:
        InputError: unknown ones, or ones that exclude each other.
    """
    given = parser().parse_args(arguments)
    if given.study is None:
        given.study = _study_for(given.data)
    if given.yes and not given.fresh:
        raise InputError("--yes confirms --fresh; give both, or neither")
    if given.sync and (given.fresh or given.dry_run):
        raise InputError("--sync only sends; leave out --fresh and --dry-run")
    if given.slurm is not None and given.address is not None:
        raise InputError("--slurm and --address name two clusters; leave one of them out")
    if given.stop and (given.fresh or given.sync or given.dry_run):
        raise InputError("--stop only stops; leave out --fresh, --sync and --dry-run")
    return given


def _study_for(path: str | None) -> str:
    """The shipped study for the data of `--data`.

    Raises:
        InputError: they are an archive that cannot be read.
    """
    name = data_name(path) if path else ""
    if name.startswith("npz:"):
        return "small-images" if data.check(spec.DataSpec(name=name)).small else "photos"
    return "photos" if name.startswith("imagefolder:") else "digits"


def listing() -> list[dict[str, Any]]:
    """Of each shipped study its name, what it is, and its scales; of each published recipe its name and what it is."""
    read = {name: plain_yaml.read(path) for name, path in shipped().items()}
    studies = [
        {"kind": "study", "name": name, "description": found["description"], "scales": [*found.get("scales", ())]}
        for name, found in read.items()
    ]
    recipes = map(Recipe.of, Recipe.names())
    return [*studies, *({"kind": "recipe", "name": one.name, "description": str(one)} for one in recipes)]


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
