"""`python -m search.export NAME --to DIR`: a study's champion as a folder that loads without the study."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from search import export, study
from search.activity import Activity, run_alone
from search.cli import Parser, failed
from search.errors import Halted, InputError
from search.formatting import error_on, say


def parser() -> Parser:
    """Its flags."""
    made = Parser("export", "Writes the champion of a study as a folder that loads without the study.")
    made.add_begun("name of a study in --output")
    made.add_argument("--to", type=Path, required=True, metavar="DIR", help="a folder that is new or empty")
    made.add_argument("--trial", type=int, metavar="N", help="another trial than the champion")
    made.add_argument("--storage", metavar="URL", help="the study's Optuna storage, where its URL needs a password")
    return made


def main(arguments: Sequence[str] | None = None, activity: Activity | None = None) -> int:
    """Exports. Exit status 0: done; 1: a place cannot be read or written, or the graphs differ; 2: bad input."""
    activity = activity or Activity()
    try:
        given = parser().parse_args(arguments)
        activity.begin(f"reading study {given.study}")
        opened = study.Study.open(given.study, output=given.output, storage=given.storage)
        activity.begin("exporting the network")
        try:
            facts = opened.export(given.to, given.trial)
        except export.graphs.NotTheSame as error:  # named here, for it is loaded with torch
            raise Halted(str(error)) from None
    except (InputError, Halted) as error:
        return failed(error, activity)
    activity.end()
    error = facts.val_error if facts.test_error is None else facts.test_error
    split = "validation" if facts.test_error is None else f"test, n = {len(facts.tested)}"
    place = f"{given.to}{export.lacks(given.to)}"
    found = f"{error:.2f} % {error_on(split, facts.measure)}"
    said = f"{facts.training} of {facts.study} ({found}) is in {place}; its README.md says more"
    say(Console(), said)
    return 0


if __name__ == "__main__":
    sys.exit(run_alone(main))
