"""`python -m search.report NAME`: the report of a study as it is now, made again at any time, also while it runs."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from search import study
from search.activity import Activity, run_alone
from search.cli import Parser, failed
from search.errors import Halted, InputError
from search.formatting import say

if TYPE_CHECKING:
    from search.study import Study


def parser() -> Parser:
    """Its flags."""
    made = Parser("report", "Writes the report of a study as it is now, also while it runs.")
    made.add_begun("name of a study in --output")
    made.add_argument("--storage", metavar="URL", help="of the study's trials, where it was run with a password in it")
    return made


def main(arguments: Sequence[str] | None = None, activity: Activity | None = None) -> int:
    """Writes the report and says where it is. Exit status: 0 done; 1 it cannot be written; 2 bad input."""
    activity = activity or Activity()
    try:
        given = parser().parse_args(arguments)
        activity.begin(f"reading study {given.study}")
        seen = study.Study.open(given.study, output=given.output, storage=given.storage)
        activity.begin("writing the report")
        written = seen.report()
    except (InputError, Halted) as error:
        return failed(error, activity)
    activity.end()
    say(Console(), f"{_sentence(seen)}: {written.html}")
    return 0


def _sentence(study: "Study") -> str:
    finals = study.finals
    parts = [f"{study.trials.finished} of {study.spec.search.trials} trials"]
    if finals is not None:
        runs = sum(len(finalist.runs) for finalist in finals.finalists)
        state = "" if finals.complete else ", not complete"
        tested = f"{runs} trainings of {len(finals.finalists)} finalists{state}"
        parts = [tested] if finals.compared else [*parts, tested]
    return f"The report of {study.name}, {' and '.join(parts)}"


if __name__ == "__main__":
    sys.exit(run_alone(main))
