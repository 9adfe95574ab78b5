# PYTHON_ARGCOMPLETE_OK
"""The command line: `python -m search.run [STUDY]`; it speaks, and can be interrupted, before it loads anything.

`resnet-search` is installed with the package: `resnet-search report` is `python -m search.report`, and so on.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from search.activity import Activity, run_alone

COMMANDS = {  # -> what is done; each is a module that has a `parser` and a `main`
    "run": "search for the best network, and answer; may be left out",
    "report": "write the report of a study as it is now",
    "export": "write the network of a study as a folder that loads without it",
    "predict": "say what a network sees in pictures",
    "ui": "open MLflow on the trials of a study",
}
_MODULES = {"run": "search.command", "report": "search.report.__main__", "export": "search.export.__main__"}


def main(arguments: Sequence[str] | None = None, activity: Activity | None = None) -> int:
    """Runs the command line, and tells the `activity` what it does.

    Returns the exit status: 0 done; 1 no trial worked, halted, or not all could be sent; 2 bad input; 130 interrupted.
    """
    from search import command  # noqa: PLC0415  takes seconds on a busy machine, of which it is told

    return command.main(arguments, activity or Activity())


def installed() -> int:
    """`resnet-search COMMAND`."""
    if "_ARGCOMPLETE" in os.environ:  # a shell asks
        return import_module("search.completion").main()
    command, *others = sys.argv[1:] or ["run"]
    if command in ("-h", "--help"):
        sys.stdout.write(_help())
        return 0
    if command not in COMMANDS:
        command, others = "run", sys.argv[1:]

    def main(arguments: Sequence[str] | None, activity: Activity) -> int:
        return import_module(module(command)).main(arguments, activity)

    return run_alone(main, others)


def module(command: str) -> str:
    """The name of the module of a command."""
    return _MODULES.get(command, f"search.{command}")


def _help() -> str:
    lines = "".join(f"  {command:9}{words}\n" for command, words in COMMANDS.items())
    return (
        f"usage: resnet-search COMMAND ...\n\nWhich residual network should I use?\n\n{lines}\n"
        "`resnet-search COMMAND --help` lists what can be given.\n"
        'Completion in a shell: eval "$(register-python-argcomplete resnet-search)"\n'
    )


if __name__ == "__main__":
    sys.exit(run_alone(main))
