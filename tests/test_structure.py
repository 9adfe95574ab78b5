"""Rules of the code's own form: a reader finds the formula, and a package is used by its face."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

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
            assert {name.name for name in found.names} <= set(import_module(f"search.{room}").__all__)


@pytest.mark.parametrize("room", ROOMS)
def test_a_folder_can_be_overseen(room: str) -> None:
    modules = [path for path in (ROOT / "search" / room).glob("*.py") if path.name != "__init__.py"]
    assert 0 < len(modules) <= 12
