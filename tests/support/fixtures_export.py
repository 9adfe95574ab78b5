"""An exported network: trained and exported once for all processes of a test run."""

import json

import pytest
from filelock import FileLock

from search.data import prepare
from search.export.bundle import export
from search.export.trained import Exportable, Facts
from search.spec import DataSpec
from tests.support.exported import TRAINED, Made, said, trained


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Made:
    root = tmp_path_factory.getbasetemp()
    shared = (root if worker_id == "master" else root.parent) / "exported"
    prepared = prepare(DataSpec())
    with FileLock(f"{shared}.lock"):
        if not (shared / "facts.json").exists():
            shared.mkdir()
            model = trained(TRAINED, prepared, shared / "weights.safetensors")
            export(shared / "digits", model)
            (shared / "facts.json").write_text(json.dumps(model.facts.__dict__))
    facts = Facts(**json.loads((shared / "facts.json").read_text()))
    model = Exportable(TRAINED, shared / "weights.safetensors", prepared, facts)
    return Made(model, shared / "digits", *said(model))
