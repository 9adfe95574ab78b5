"""docs/tutorial.ipynb, executed in a kernel of its own, as a reader does."""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path("docs/tutorial.ipynb")
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    environment = {"PYTHONPATH": str(Path.cwd()), "XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder)}
    client = NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(folder)}})
    client.execute(env=os.environ | environment)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any, kind: str) -> list[str]:
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def code(cells: list[Any], text: str) -> Any:
    return next(cell for cell in cells if text in cell.source)


def test_it_is_kept_without_outputs() -> None:
    assert not any(cell.get("outputs") for cell in nbformat.read(NOTEBOOK, as_version=4).cells)


def test_each_cell_shows_what_it_is_there_for(executed: list[Any]) -> None:
    """Progress is one display that is written anew, in place of one for each trial: at the end it shows the finals."""
    (answer,) = shown(code(executed, "study.run()"), "text/markdown")
    assert answer.startswith("Use a")
    assert "test error" in answer
    progress = shown(code(executed, "study.run()"), "text/html")
    assert any("finals" in page for page in progress)
    assert len(progress) < 8
    (table,) = shown(code(executed, "to_frame"), "text/html")
    assert table.count("<tr") == 2 + 4, "two lines of head, and a row for each trial"
    assert "net.depth" in table
    (figure,) = shown(code(executed, "plot_optimization_history"), "application/vnd.plotly.v1+json")
    assert figure["data"]
    (classes,) = shown(code(executed, "resnet.load"), "text/plain")
    assert any(digit in classes for digit in "0123456789")
