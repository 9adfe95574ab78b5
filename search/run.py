"""The command line: `python -m search.run [STUDY]`; it speaks, and can be interrupted, before it loads anything.

`resnet-search run | report | export | ui` is the same as the module of that name; `run` may be left out.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from search.activity import INTERRUPTED, Activity, end_at_once, leave


def main(arguments: Sequence[str] | None = None, activity: Activity | None = None) -> int:
    """Runs the command line, and tells the `activity` what it does.

    Returns the exit status: 0 done; 1 no trial worked, halted, or not all could be sent; 2 bad input; 130 interrupted.
    """
    from search import command  # noqa: PLC0415  takes seconds on a busy machine, of which it is told

    return command.main(arguments, activity or Activity())


def started() -> int:
    """`main`, as the whole of this process."""
    end_at_once()
    with Activity() as activity:
        activity.begin("starting")
        status = main(activity=activity)
    if status == INTERRUPTED:
        leave()
    return status


COMMANDS = {"report": "search.report.__main__", "export": "search.export.__main__", "ui": "search.ui"}


def installed() -> int:
    """`resnet-search`, as it is installed with the package."""
    command, *others = sys.argv[1:] or ["run"]
    if command in COMMANDS:
        return import_module(COMMANDS[command]).main(others)
    if command == "run":
        del sys.argv[1:2]
    return started()


if __name__ == "__main__":
    sys.exit(started())
