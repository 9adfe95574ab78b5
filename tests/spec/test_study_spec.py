"""Studies: files, changes on top of them, and what is written down."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from search.errors import InputError
from search.optimize import make_scheduler
from search.spec import SearchSpec, StudySpec, TrialSpec, find, load, shipped
from search.spec.catalogue import SHIPPED

# height, width, channels, classes, as the data sets' authors state them
IMAGES = {
    "digits": (8, 8, 1, 10),
    "fashion-mnist": (28, 28, 1, 10),
    "cifar10": (32, 32, 3, 10),
    "cifar100": (32, 32, 3, 100),
    "svhn": (32, 32, 3, 10),
    "imagefolder": (224, 224, 3, 2),
    "npz": (32, 32, 3, 2),
}
FILE = """
name: mine
description: A study of mine
data: digits
net: {version: v2}
train: {epochs: 6, lr: 0.2}
space:
  net.depth: [8, 14]
  train.weight_decay: {low: 1e-5, high: 1e-3, log: true}
search: {trials: 5, time_budget: 30m}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.yaml"
    path.write_text(FILE)
    return path


COMPARING = {"degradation", "paper-activations", "paper-preact", "paper-preact-cifar100", "paper-shortcuts"}
SEARCHING = sorted(path for path in SHIPPED.glob("*.yaml") if path.stem not in COMPARING)


def test_patience_and_money_may_be_written_as_they_are_said() -> None:
    search = SearchSpec.model_validate({"patience": "10 trainings", "max_cost": "20usd", "target": {"val_error": 5}})
    assert (search.patience, search.max_cost, search.money) == (10, "20 USD", (20.0, "USD"))
    again = SearchSpec.model_validate(search.model_dump(mode="json"))
    assert again == search


@pytest.mark.parametrize("path", SEARCHING, ids=lambda path: path.stem)
def test_shipped_study(path: Path, tmp_path: Path) -> None:
    spec = load(path)
    assert spec.name == path.stem
    assert len(spec.description) > 20
    height, width, channels, classes = IMAGES[spec.data.name.partition(":")[0]]
    space = spec.make_space((height, width, channels), classes)
    space.check((height, width))
    assert len(space.dimensions) >= 3
    assert make_scheduler(spec.search, spec.epochs).rungs, "trials can be stopped early"
    copy = tmp_path / "copy.yaml"
    copy.write_text(spec.to_yaml())
    assert load(copy) == spec


def test_there_are_shipped_studies() -> None:
    assert {"digits", "fashion-mnist", "cifar10", "cifar100"} | COMPARING <= set(shipped())
    assert find("digits") == SHIPPED / "digits.yaml"


def test_file(file: Path) -> None:
    spec = load(file)
    assert (spec.name, spec.data.name, spec.epochs) == ("mine", "digits", 6)
    assert spec.fixed == {"net.version": "v2", "train.epochs": 6, "train.lr": 0.2}
    assert spec.search.time_budget == 1800
    assert (spec.search.sampler.value, spec.search.scheduler.value, spec.search.seed) == ("auto", "asha", 0)
    assert find(str(file)) == file


def test_name_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "my-birds.yaml").write_text("data: digits")
    assert load(tmp_path / "my-birds.yaml").name == "my-birds"


def test_resolved_reads_back_equal(file: Path, tmp_path: Path) -> None:
    changes = [
        ("space.net.version", ["v1", "v2"]),
        ("tracking.uri", "sqlite:////tmp/a b.db"),
        ("description", "è\nü: ["),
    ]
    spec = load(file, changes)
    again = tmp_path / "again.yaml"
    again.write_text(spec.to_yaml())
    assert load(again) == spec
    raw = yaml.safe_load(spec.to_yaml())
    assert set(raw) == set(StudySpec.model_fields)
    assert raw["search"]["time_budget"] == 1800
    assert raw["resources"] == {"cpus_per_trial": 1.0, "gpus_per_trial": "auto", "compile": False}


def test_fixing_ends_the_search_and_the_reverse(file: Path) -> None:
    fixed = load(file, [("net.depth", 14)])
    assert fixed.net == {"version": "v2", "depth": 14}
    assert set(fixed.space) == {"train.weight_decay"}
    searched = load(file, [("space.net.version", ["v1", "v2"]), ("space.train.lr", [0.1])])
    assert searched.net == {}
    assert searched.train == {"epochs": 6}
    assert searched.space["net.version"] == ["v1", "v2"]
    assert searched.space["train.lr"] == [0.1]
    back = load(file, [("net.depth", 14), ("space.net.depth", [20])])
    assert back.space["net.depth"] == [20]
    assert "depth" not in back.net


def test_a_part_of_a_range(file: Path) -> None:
    spec = load(file, [("space.train.weight_decay.high", 0.01), ("space.train.weight_decay.log", False)])
    assert spec.space["train.weight_decay"] == {"low": "1e-5", "high": 0.01, "log": False}
    replaced = load(file, [("space.net.depth.low", 8), ("space.net.depth.high", 20), ("space.net.depth.step", 6)])
    assert replaced.space["net.depth"] == {"low": 8, "high": 20, "step": 6}
    whole = load(file, [("space", {"net": {"depth": [20]}})])
    assert whole.space == {"net.depth": [20]}


def test_the_later_change_wins(file: Path) -> None:
    assert load(file, [("train.lr", 0.3), ("train.lr", 0.4)]).train["lr"] == 0.4
    assert load(file, [("search.trials", "9")]).search.trials == 9


def test_data_by_name_alone_and_in_parts(file: Path) -> None:
    assert load(file, [("data.validation", 0.25)]).data.model_dump()["validation"] == 0.25
    assert load(file, [("data.validation", 0.25)]).data.name == "digits"
    assert load(file, [("data", "cifar10")]).data.name == "cifar10"
    assert load(file, [("data.name", "npz:/a.npz"), ("data.dir", "/b")]).data.dir == "/b"


def test_set_into_an_empty_section(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("search:\ntrain:\nspace:\n")
    spec = load(tmp_path / "e.yaml", [("search.trials", 3), ("train.lr", 0.2)])
    assert (spec.search.trials, spec.train, spec.space) == (3, {"lr": 0.2}, {})


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2 h", 7200), ("1d", 86400), (12, 12), (0.5, 0.5)],
)
def test_time_budget(given: Any, seconds: float) -> None:
    assert SearchSpec(time_budget=given).time_budget == seconds


@pytest.mark.parametrize("given", ["soon", "", "-5", "1w", "30 minutes", "1h30m", 0, -1, "0m"])
def test_no_time_budget(given: Any) -> None:
    with pytest.raises(ValidationError, match=r"time_budget"):
        SearchSpec(time_budget=given)


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "", "a b", "x" * 101, "-x"])
def test_name_that_is_no_folder(name: str) -> None:
    with pytest.raises(InputError, match=r"^name = '.*' cannot name a folder; use letters, digits, dots, - and _$"):
        StudySpec(name=name)


def test_fixed_and_searched(file: Path) -> None:
    file.write_text(FILE.replace("net: {version: v2}", "net: {depth: 8}"))
    with pytest.raises(InputError, match=r"^net\.depth is both fixed and in space; remove one of them$"):
        load(file)


def test_frozen(file: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load(file).name = "other"


def test_a_password_in_an_address_is_not_written_down(tmp_path: Path) -> None:
    file = tmp_path / "secret.yaml"
    file.write_text("name: secret\ntracking: {uri: 'https://ana:hunter2@mlflow.example.org/path'}\n")
    written = load(file).to_yaml()
    assert "hunter2" not in written
    assert "https://mlflow.example.org/path" in written


SECTIONS = {section: getattr(field.annotation, "model_fields", {}) for section, field in StudySpec.model_fields.items()}
PATHS = (
    *SECTIONS,
    *(f"{section}.{name}" for section, fields in SECTIONS.items() for name in fields),
    *TrialSpec.paths(),
    *(f"space.{path}{part}" for path in TrialSpec.paths() for part in ("", ".low", ".choices", ".when")),
    *("scales.quick", "scale.name", "", ".", "net.", "space.", "net.a.b", "a"),
)
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([2**63 - 1, 1e308, 1e-320, "9" * 5000, "1e999G", "8"]))
WORDS = st.one_of(st.text(max_size=8), st.sampled_from(["resnet20", "npz:/dev/zero", "imagefolder:~nobody", "n/a"]))
KEYS = ["low", "high", "step", "log", "choices", "when", "name", "set"]
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), NUMBERS, WORDS), inner, max_size=3),
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES), max_size=3), st.sampled_from([None, "smoke", "x"]))
def test_whatever_is_set_is_taken_or_refused_in_a_sentence(changes: list[tuple[str, Any]], scale: str | None) -> None:
    for path, images in ((SHIPPED / "digits.yaml", "digits"), (SHIPPED / "paper-preact.yaml", "cifar10")):
        height, width, channels, classes = IMAGES[images]
        with suppress(InputError):
            spec = load(path, changes, scale)
            spec.make_space((height, width, channels), classes).check((height, width))
            spec.rows((height, width, channels), classes)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, len(FILE)), st.text("[]{}:,-&*!|>'\"%@`#?\n \t\0\ufeff9.~=<", max_size=3))))
def test_any_text_is_a_study_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, str]]
) -> None:
    text = FILE
    for place, put in edits:
        text = text[:place] + put + text[place + 1 :]
    file = tmp_path_factory.getbasetemp() / "edited.yaml"
    file.write_text(text)
    try:
        spec = load(file)
        spec.make_space((8, 8, 1), 10)
    except InputError:
        return
    file.write_text(spec.to_yaml())
    assert load(file) == spec
