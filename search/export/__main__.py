"""`python -m search.export NAME --to DIR`: a study's champion as a folder that loads without the study."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from search import export, study
from search.errors import Halted, InputError
from search.storage import Output


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports. Exit status 0: done; 1: a place cannot be read or written, or the graphs differ; 2: bad input."""
    flags = argparse.ArgumentParser(prog="python -m search.export", description=__doc__)
    flags.add_argument("study", help="name of a study in --output")
    flags.add_argument("--to", type=Path, required=True, metavar="DIR", help="a folder that is new or empty")
    flags.add_argument("--output", type=Output, default=Output("results"), metavar="DIR", help="default: results")
    flags.add_argument("--trial", type=int, metavar="N", help="another trial than the champion")
    flags.add_argument("--storage", metavar="URL", help="the study's Optuna storage, where its URL needs a password")
    console, errors = Console(), Console(stderr=True, soft_wrap=True, highlight=False)
    given = flags.parse_args(arguments)
    try:
        opened = study.Study.open(given.study, output=given.output, storage=given.storage)
        facts = opened.export(given.to, given.trial)
    except (InputError, Halted, export.NotTheSame) as error:
        errors.print(f"error: {error}", markup=False)
        return 2 if isinstance(error, InputError) else 1
    error = facts.val_error if facts.test_error is None else facts.test_error
    kind = "validation" if facts.test_error is None else f"test, n = {len(facts.tested)}"
    place = f"{given.to}{export.lacks(given.to)}"
    said = f"{facts.training} of {facts.study} ({error:.2f} % {kind} error) is in {place}; its README.md says more"
    console.print(said, markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
