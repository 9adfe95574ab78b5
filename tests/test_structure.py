"""A rule of the code's own form: a reader finds the formula."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_formula_is_one_line() -> None:
    tree = ast.parse((ROOT / "resnet" / "residual.py").read_text())
    (residual,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Residual")
    (forward,) = (n for n in residual.body if isinstance(n, ast.FunctionDef) and n.name == "forward")
    assert [ast.unparse(line) for line in forward.body] == ["return self.f(self.h(x) + self.F(x))"]
