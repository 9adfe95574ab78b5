"""The JSON Schema of a study's file, and the table of its keys, by the reference implementation of JSON Schema."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from search.errors import InputError
from search.run import main
from search.spec import StudySpec, load, plain_yaml, schema, shipped

ROOT = Path(__file__).parents[2]
CHECK = Draft202012Validator(schema())


def test_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(printed)
    assert set(printed["properties"]) == set(StudySpec.model_fields)


@pytest.mark.parametrize("name", shipped())
def test_shipped_studies_are_valid(name: str) -> None:
    assert list(CHECK.iter_errors(plain_yaml.read(shipped()[name]))) == []
    assert list(CHECK.iter_errors(yaml.safe_load(load(shipped()[name]).to_yaml()))) == []


@pytest.mark.parametrize(
    "text",
    [
        "data: npz:a.npz",
        "start: resnet20",
        "start: [resnet20, {net.depth: 8}, {study: digits, best: 3}]",
        "start: {study: digits}",
        "limits: {params: 500k, macs: 1e8, activation_memory: 8Gi}",
        "search: {objectives: macs, time_budget: 30m}",
        "search: {objectives: [val_error, macs], time_budget: 12.5}",
        "space: {net: {depth: [8]}, train.lr: {low: 0.1, high: 0.2, log: true}}",
        "space: {net.gate_bias: {choices: [-6], when: {net.shortcut: exclusive_gate}}}",
        "compare: [{name: a, set: {net: {depth: 8}, train.lr: 0.1}, published: 1603.05027/table1/identity}]",
        "scales: {quick: [train.epochs=3]}",
        "resources: {gpus_per_trial: auto, cpus_per_trial: 2}",
    ],
)
def test_what_a_file_may_have_is_valid(text: str) -> None:
    assert list(CHECK.iter_errors(yaml.safe_load(text))) == []


@pytest.mark.parametrize(
    "given",
    [
        {"spaces": {}},
        {"space": {"net.dept": [8]}},
        {"space": {"net.depth": 8}},
        {"space": {"net.depth": []}},
        {"space": {"net.depth": {"low": 8}}},
        {"space": {"net.version": ["v3"]}},
        {"space": {"net.version": {"low": 1, "high": 2}}},
        {"space": {"train.epochs": [3]}},
        {"space": {"net.num_classes": [3]}},
        {"train": {"lr": 0}},
        {"train": {"schedule": "linear"}},
        {"net": {"in_channels": 3}},
        {"search": {"trials": 0}},
        {"search": {"sampler": "best"}},
        {"start": {"study": "digits", "best": 0}},
        {"start": {"study": "digits", "bests": 3}},
        {"compare": [{"set": {"net.depth": 8}}]},
        {"scales": {"quick": {"train.epochs": 3}}},
        {"resources": {"gpus_per_trial": "all"}},
    ],
)
def test_what_a_study_refuses_is_not_valid(given: dict[str, Any]) -> None:
    assert list(CHECK.iter_errors(given))
    with pytest.raises(InputError):
        load({"name": "x", **given}).make_space((8, 8, 1), 10).check((8, 8))


def test_every_key_has_a_meaning_and_the_table_is_that_of_the_code() -> None:
    table = runpy.run_path(str(ROOT / "docs" / "study_table.py"))
    page = "\n".join(table["lines"]()).rstrip() + "\n"
    assert (ROOT / "docs" / "study.md").read_text() == page, "run `python docs/study_table.py > docs/study.md`"
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows if not row[-1].rstrip(" |")] == []
    assert {row[0].strip("| `") for row in rows} >= {"space", "net.depth", "train.lr", "data.limit", "search.trials"}
