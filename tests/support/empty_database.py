"""An empty database of MLflow's, made once: each time MLflow makes one, a core works two seconds.

That it is made whole, whatever dies meanwhile, is for test_tracking_database.py; test_run.py and test_power_cut.py have
theirs made by the study.
"""

import shutil
import tempfile
from functools import cache
from pathlib import Path

from search.tracking.client import ready


def place(path: Path) -> None:
    """A copy at `path`, unless there is a file."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_made(), path)


def tracked(folder: Path, results: str = "results") -> Path:
    """`folder`, in which studies find a database in `results`."""
    place(folder / results / "mlflow.db")
    return folder


@cache
def _made() -> Path:
    path = Path(tempfile.mkdtemp(prefix="rs-")) / "mlflow.db"
    ready(f"sqlite:///{path}")
    return path
