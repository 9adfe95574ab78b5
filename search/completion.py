"""What a shell may offer behind `resnet-search`: commands, flags, studies, keys of --set. Loads nothing heavy."""

import os
from importlib import import_module
from typing import Any

import argcomplete

from search import cli
from search.run import COMMANDS, module


def main() -> int:
    """Answers the shell, which ends this process."""
    typed = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])].split(" ")
    command = typed[1] if len(typed) > 2 and typed[1] in COMMANDS else None
    if command is not None:
        os.environ["_ARGCOMPLETE"] = "2"  # words before what is completed
    made = cli.parser() if command in (None, "run") else import_module(module(command)).parser()
    if len(typed) <= 2:
        study = next(action for action in made._actions if action.dest == "study")
        cli.completed(study, _first)
    argcomplete.autocomplete(made, always_complete_options=False)
    return 1  # it was no shell


def _first(**given: Any) -> list[str]:
    return [*COMMANDS, *cli.studies(**given)]
