"""docs/equations.md: its code lines and tests exist, and it leaves nothing of the article out."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from resnet import Shortcut, Unit, Version
from tests.support.networks import PAPERS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "equations.md").read_text()
CODE = re.findall(r"`(resnet/\w+\.py)`: `([^`]+)`", TEXT)
TESTS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)

# Counted in the article, which is not in the repository: 13 displayed equations, and four in its sentences.
DISPLAYED = 13
IN_SENTENCES = {"A2a", "A6a", "A7a", "A9a"}

HEADINGS = {  # kind of a departure -> where it is listed
    "architecture": "Architecture",
    "recipe": "Recipe and code",
    "code": "Recipe and code",
    "formula": "Formulas",
    "naming": "Names",
    "wording": "Names",
    "claim": "Claims and omissions",
    "omission": "Claims and omissions",
}


def test_every_reference_is_read():
    """A reference that is spelled otherwise would escape the tests below."""
    assert len(CODE) == len(re.findall(r"(?<!tests/)resnet/\w*\.py", TEXT))
    assert len(TESTS) == len(re.findall(r"tests/[\w/]*\.py", TEXT))
    assert min(len(CODE), len(TESTS)) > 30


@pytest.mark.parametrize(("file", "line"), sorted(set(CODE)))
def test_code_line_exists(file, line):
    assert line in [line.strip() for line in (ROOT / file).read_text().splitlines()]


@cache
def names_in(file):
    """Names of the test functions in a file."""
    nodes = ast.walk(ast.parse((ROOT / file).read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize(("file", "name"), sorted(set(TESTS)))
def test_test_exists(file, name):
    assert name in names_in(file)


def test_every_equation_has_code_and_test():
    """Labels, then their code, then their tests; the next label begins the next equation."""
    references: dict[str, str] = {}
    for part in TEXT.split("\n## Choices")[0].split("\n\n**")[1:]:
        body, _, listed = f"**{part}".partition("\n- code ")
        for label in re.findall(r"\*\*(A\d+a?)\*\*", body):
            assert label not in references
            references[label] = f"- code {listed}"
    assert references.keys() == {f"A{k}" for k in range(1, DISPLAYED + 1)} | IN_SENTENCES
    for listed in references.values():
        assert re.search(r"- code `resnet/", listed)
        assert re.search(r"- test `tests/", listed)


def rows(heading):
    """The cells of each row of the table under a heading, without the table's own heading."""
    section = re.split(r"\n#+ ", TEXT.split(f"\n### {heading}\n")[1])[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


@pytest.mark.parametrize("heading", sorted(set(HEADINGS.values())))
def test_every_departure_is_listed(heading):
    listed = rows(heading)
    assert all(len(cells) == 4 and all(cells) for cells in listed)
    expected = [f"`{entry['id']}`" for entry in PAPERS["article_deviations"] if HEADINGS[entry["kind"]] == heading]
    assert sorted(cells[0] for cells in listed) == sorted(expected)


def test_every_choice_has_a_row():
    shortcuts = "".join(cells[0] for cells in rows("Shortcuts: [2] Sec. 3.1, Fig. 2, Table 1"))
    assert set(re.findall(r"`(\w+)`", shortcuts)) == set(Shortcut)
    units = "".join(cells[0] for cells in rows("Units, dimension, stem and head, initialisation"))
    assert set(re.findall(r"`(\w+)`", units)) == set(Unit)


def test_orders_are_those_of_the_paper():
    listed = rows("Activation orders: [2] Sec. 4.1, Fig. 4, Table 2")
    assert [re.findall(r"`(\w+)`", cells[0])[0] for cells in listed] == list(Version)
    letters = [f"4({cells[0][-2]})" for cells in listed]
    assert dict(zip(letters, [cells[1] for cells in listed], strict=True)) == {
        row["fig"]: row["order"] for row in PAPERS["v2_table2_activation"]
    }
