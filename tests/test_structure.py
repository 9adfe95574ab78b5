"""Rules of the code's own form: a reader finds the formula, and a package is used by its face."""

import ast
from pathlib import Path

import pytest

MOST = 12  # names that a package offers
MORE = {  # and those that may offer more, up to so many
    "spec": 36,  # what a study is written in: each section, the choices of each field, published figures and recipes
    "records": 23,  # the records of two stages, what they have spent, and what a report is made of
    "study": 14,  # a study from its specification to its answer, and what is told of one before it is run
    "training": 18,  # trials, each in a process, in several or with others in one, and what is measured of them
    "optimize": 17,  # beside the search's strategy the finals', who takes part, and what they found
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_of_a_face_only_its_names_are_used(path: Path) -> None:
    imports = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
    for found in imports:
        package, _, room = (found.module or "").partition(".")
        if package == "search" and room in ROOMS and path.parent.name != room:
            assert {alias.name for alias in found.names} <= {name.rpartition(".")[2] for name in declared(room)}


@pytest.mark.parametrize("room", ROOMS)
def test_a_folder_can_be_overseen(room: str) -> None:
    modules = [path for path in (ROOT / "search" / room).glob("*.py") if path.name != "__init__.py"]
    assert 0 < len(modules) <= 12


@pytest.mark.parametrize("room", ROOMS)
def test_a_face_is_small_and_offers_what_there_is(room: str) -> None:
    calls = [n for n in ast.walk(face(room)) if isinstance(n, ast.Call) and ast.unparse(n.func) == "lazy"]
    offers = {word.arg: ast.literal_eval(word.value).split() for call in calls for word in call.keywords}
    files = {f"search.{room}.{path.stem}" for path in (ROOT / "search" / room).glob("*.py")}
    offered = {f"search.{room}.{module}.{name}" for module, names in offers.items() for name in names}
    assert declared(room) - files == offered
    assert 0 < len(declared(room)) <= MORE.get(room, MOST)


def face(room: str) -> ast.Module:
    return ast.parse((ROOT / "search" / room / "__init__.py").read_text())


def declared(room: str) -> set[str]:
    """The names that a package says it offers, each with its file, and its files that it offers whole."""
    imports = [n for n in ast.walk(face(room)) if isinstance(n, ast.ImportFrom) and n.module != "search"]
    return {f"{n.module}.{alias.name}" for n in imports if n.module != "typing" for alias in n.names}
