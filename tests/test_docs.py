"""README and docs/: short where they promise to be, and without a dead link."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from search import cli
from tests.support.sample_data import write_npz

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
QUIET = {"NO_MKDOCS_2_WARNING": "1"}  # mkdocs-material's advertisement of its successor
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them: lower case, punctuation left out, spaces as hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}"


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").iterdir() if page.suffix in (".md", ".ipynb")} - {"README.md"}
    assert {name for name in pages if f"({name})" not in index} == set()


def test_the_site(tmp_path: Path) -> None:
    """Every page is on it, equations are drawn by the browser itself, and nothing is fetched from elsewhere."""
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    ended = subprocess.run(build, cwd=ROOT, env=os.environ | QUIET, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    docs = ROOT / "docs"
    for page in [*docs.rglob("*.md"), *docs.rglob("*.ipynb")]:
        where = page.relative_to(docs).with_suffix("")
        shown = (tmp_path / (where.parent if where.name == "README" else where) / "index.html").read_text()
        assert re.findall(r'<(?:script|link|img)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*', shown) == []
    equations = (tmp_path / "equations" / "index.html").read_text()
    assert equations.count("<math ") >= 13, "as many as the article has"
    assert "$" not in re.sub(r"<script.*?</script>", "", equations, flags=re.DOTALL)


def test_the_readme_can_be_read_in_five_minutes() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 130
    assert len(text.split()) <= 1200  # five minutes at 240 words a minute


def blocks(language: str) -> list[str]:
    """The code blocks of README in one language; "" are commands."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def test_the_readmes_studies_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its YAML file and every command of `search.run`: flags, names and values are those that there are."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    write_npz(tmp_path / "images.npz")
    (study,) = blocks("yaml")
    (tmp_path / "my-study.yaml").write_text(study)
    commands = [line for block in blocks("") for line in block.splitlines() if "-m search.run" in line]
    asked = [cli.study(cli.parse(shlex.split(line, comments=True)[3:])) for line in commands if "RAY_" not in line]
    names = ["my-study", "my-study", "my-study", "cifar10", "photos", "small-images", "cifar10"]
    assert [study.name for study in asked] == names
    assert [asked[n].search.trials for n in (1, 2)] == [48, 96]


def test_the_readmes_python_is_python() -> None:
    for block in blocks("python"):
        ast.parse(block)
