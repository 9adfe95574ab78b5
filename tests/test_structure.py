"""Rules of the code's own form: a reader finds the formula, and nothing is long."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "resnet").glob("*.py"), *(ROOT / "search").glob("*.py")])


def test_the_formula_is_one_line() -> None:
    tree = ast.parse((ROOT / "resnet" / "residual.py").read_text())
    (residual,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Residual")
    (forward,) = (n for n in residual.body if isinstance(n, ast.FunctionDef) and n.name == "forward")
    assert [ast.unparse(line) for line in forward.body] == ["return self.f(self.h(x) + self.F(x))"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_and_classes_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 250
    if path.parent.name == "resnet":
        lengths = {
            n.name: n.end_lineno - n.lineno + 1 for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ClassDef)
        }
        assert {name: length for name, length in lengths.items() if length > 60} == {}
