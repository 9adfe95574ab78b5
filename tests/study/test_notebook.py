"""docs/study.ipynb, executed in a kernel of its own, as a reader does."""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path("docs/study.ipynb")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


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
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_the_answer_is_shown(executed: list[Any]) -> None:
    (answer,) = shown(code(executed, "study.run()"), "text/markdown")
    assert answer.startswith("Use a")
    assert "test error" in answer


def test_progress_is_a_table_that_updates(executed: list[Any]) -> None:
    """One display that is written anew, in place of a line for each trial: at the end it shows the finals."""
    pages = shown(code(executed, "study.run()"), "text/html")
    assert any("finals" in page for page in pages)
    assert len(pages) < 8, "each trial has a display of its own"


def test_trials_are_a_table(executed: list[Any]) -> None:
    (table,) = shown(code(executed, "to_frame"), "text/html")
    assert table.count("<tr") == 2 + 4, "two lines of head, and a row for each trial"
    assert "net.depth" in table


def test_optuna_draws_it(executed: list[Any]) -> None:
    (figure,) = shown(code(executed, "plot_optimization_history"), "application/vnd.plotly.v1+json")
    assert figure["data"]


def test_the_export_names_digits(executed: list[Any]) -> None:
    (classes,) = shown(code(executed, "resnet.load"), "text/plain")
    assert len([digit for digit in "0123456789" if digit in classes]) >= 1
