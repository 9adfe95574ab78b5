"""Rules of the code's own form: a reader finds the formula, and a package is used by its face."""

import ast
from pathlib import Path

import pytest

MOST = 12  # names that a package offers
MORE = {  # and those that may offer more, up to so many
    "spec": 31,  # what a study is written in: each section, the choices of each field, and how they are read
    "records": 16,  # the records of two stages, and what a report is made of
    "optimize": 17,  # beside the search's strategy the finals', who takes part, and what they found
    "training": 17,  # the loop, and what a worker does with a device and with checkpoints
    "tracking": 25,  # events, outboxes, the mirror, the server and its registry
    "storage": 33,  # files and URLs, whole or as they are read, and the layout of a study's folder
}
ROOT = Path(__file__).parent.parent
ROOMS = sorted(path.parent.name for path in (ROOT / "search").glob("*/__init__.py"))
FILES = sorted((ROOT / "search").rglob("*.py"))


def test_the_formula_is_one_line() -> None:
    tree = ast.parse((ROOT / "resnet" / "residual.py").read_text())
    (residual,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Residual")
    (forward,) = (n for n in residual.body if isinstance(n, ast.FunctionDef) and n.name == "forward")
    assert [ast.unparse(line) for line in forward.body] == ["return self.f(self.h(x) + self.F(x))"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_is_used_by_its_face(path: Path) -> None:
    imports = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
    files = [n.module.split(".") for n in imports if n.module and n.module.startswith("search.")]
    inside = {module[1] for module in files if len(module) > 2}
    assert inside <= {path.parent.name}, "the files of another package"


@pytest.mark.parametrize("room", ROOMS)
def test_a_folder_can_be_overseen(room: str) -> None:
    modules = [path for path in (ROOT / "search" / room).glob("*.py") if path.name != "__init__.py"]
    assert 0 < len(modules) <= 12


@pytest.mark.parametrize("room", ROOMS)
def test_a_face_is_small_and_offers_what_there_is(room: str) -> None:
    face = ast.parse((ROOT / "search" / room / "__init__.py").read_text())
    imports = [n for n in ast.walk(face) if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("search.")]
    declared = {f"{n.module}.{alias.name}" for n in imports for alias in n.names}
    calls = [n for n in ast.walk(face) if isinstance(n, ast.Call) and ast.unparse(n.func) == "lazy"]
    offers = {word.arg: ast.literal_eval(word.value).split() for call in calls for word in call.keywords}
    offered = {f"search.{room}.{module}.{name}" for module, names in offers.items() for name in names}
    assert declared == offered
    assert 0 < len(offered) <= MORE.get(room, MOST)
