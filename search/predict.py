"""`python -m search.predict NETWORK IMAGE...`: what a study's champion, or an exported network, sees in pictures."""

import json
import struct
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from rich.console import Console

import resnet
from search import export, study
from search.activity import Activity, run_alone
from search.cli import Parser, failed
from search.errors import Halted, InputError
from search.formatting import plural, say
from search.storage import Output, paths

if TYPE_CHECKING:
    from resnet import Classifier

DONE, BAD_INPUT = 0, 2


def parser() -> Parser:
    """Its flags."""
    made = Parser("predict", "Says what the champion of a study, or an exported network, sees in pictures.")
    made.add_begun("a study in --output, for its champion, or a folder that `export` wrote", metavar="NETWORK")
    made.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="PNG, JPEG, or what else Pillow reads")
    made.add_argument("--json", action="store_true", help="print a list, with the probability of each class")
    return made


def main(arguments: Sequence[str] | None = None, activity: Activity | None = None) -> int:
    """Prints a line for each image. Exit status 0: done; 1: a study cannot be read; 2: bad input, or a bad image."""
    activity = activity or Activity()
    console, errors = Console(), Console(stderr=True)
    try:
        given = parser().parse_args(arguments)
        activity.begin("loading the network")
        model = _network(given.study, given.output)
    except (InputError, Halted) as error:
        return failed(error, activity)
    activity.end()
    if given.json:
        activity.begin(f"looking at {plural(len(given.images), 'image')}")
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    refused = 0
    for path in given.images:
        try:
            seen = _seen(model, path, notes)
        except InputError as error:
            refused += 1
            say(errors, f"error: {error}")
            continue
        found.append(seen)
        if not given.json:
            say(console, f"{path}: {seen['label']} ({100 * seen['probability']:.1f} %)", whole=True)
    activity.end()
    if given.json:
        say(console, json.dumps(found, indent=1), whole=True)
    if notes:
        others = f" (as are {len(notes) - 1} others)" if len(notes) > 1 else ""
        say(errors, f"note: {notes[0]}{others}")
    return BAD_INPUT if refused else DONE


def _network(name: str, output: Output) -> "Classifier":
    """Of an exported folder, or the champion of a study.

    Raises:
        InputError: there is none, or it is damaged.
        Halted: the place of the study does not answer.
    """
    places = Path(name), output.path / name / export.CHAMPION
    folder = next((place for place in places if (place / "config.json").is_file()), None)
    if folder is None:
        study.Study.open(name, output=output)  # which says what is wrong with the name
        raise InputError(
            f"study {name!r} has no champion here; let it come to its end, or name a folder that `search.export` wrote"
        )
    try:
        return resnet.load(folder)
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from None


def _seen(model: "Classifier", path: Path, notes: list[str]) -> dict[str, Any]:
    """As MLflow serves it: label, its probability, and that of each class; `notes` takes what was done to the image.

    Raises:
        InputError: the file is no image, or none that the network reads.
    """
    if fault := paths.fault(path):
        raise InputError(f"{path} {fault}")
    try:
        with warnings.catch_warnings(record=True) as warned, Image.open(path) as image:
            warnings.simplefilter("always")
            (found,) = model.probabilities(image).tolist()
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: {error}") from None
    notes += [f"{path}: {warning.message}" for warning in warned if warning.category is UserWarning]
    named = dict(zip(model.classes, found, strict=True))
    label = max(named, key=named.__getitem__)
    return {"image": str(path), "label": label, "probability": named[label], "probabilities": named}


if __name__ == "__main__":
    sys.exit(run_alone(main))
