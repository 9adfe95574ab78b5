"""Studies that compare given configurations, and the scales of a study."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from search.dry_run import Timed, seconds_an_image
from search.errors import InputError
from search.run import main
from search.spec import load
from tests.support.fixtures import alone, refusal  # noqa: F401

FILE = """
name: mine
data: {name: digits, validation: 0.2}
net: {depth: 14}
train: {epochs: 4, batch_size: 32, crop_padding: 1, flip: false}
compare:
  - name: original
    published: 1603.05027/table1/identity
  - {name: plain, set: {net.shortcut: none}}
  - {name: deep, set: {net: {depth: 20}}, against: plain}
finals: {seeds: 3, max_seeds: 3}
scales:
  smoke: [train.epochs=1, compare.deep.net.depth=8, finals.seeds=2, finals.max_seeds=2]
  small: [net.depth=8, "compare=[original, plain]"]
"""
SHAPE, CLASSES = (8, 8, 1), 10


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    return path


def edited(file: Path, **changes: Any) -> Path:
    raw = yaml.safe_load(file.read_text())
    raw.update(changes)
    file.write_text(yaml.safe_dump(raw))
    return file


def test_rows_are_over_the_fixed_values_and_the_data(file: Path) -> None:
    rows = load(file).rows(SHAPE, CLASSES)
    assert [(row.label, row.published, row.against) for row in rows] == [
        ("original", ("1603.05027/table1/identity",), None),
        ("plain", (), "original"),
        ("deep", (), "plain"),
    ]
    assert [row.params["net.depth"] for row in rows] == [14, 14, 20]
    assert [row.params["net.shortcut"] for row in rows] == ["identity", "none", "identity"]
    for row in rows:
        fixed = {"net.in_channels": 1, "net.num_classes": 10, "train.batch_size": 32}
        assert row.params | fixed == row.params
        assert "train.seed" not in row.params


def test_what_is_written_down_reads_back(file: Path, tmp_path: Path) -> None:
    for scale in (None, "smoke", "small"):
        spec = load(file, scale_name=scale)
        copy = tmp_path / "study.yaml"
        copy.write_text(spec.to_yaml())
        assert load(copy) == spec


ONE = {"scales": {"a": ["net.depth=8"]}}
REFUSED: list[tuple[dict[str, Any], str]] = [  # no comparison
    ({"compare": "original"}, "compare = 'original' is no list of rows"),
    ({"compare": [{"set": {}}]}, "compare: row 1 = {'set': {}} has no name"),
    ({"compare": [{"name": 110}]}, "row 1"),
    ({"compare": [{"name": "a"}, {"name": "a"}]}, "two rows are named 'a'"),
    ({"compare": [{"name": "a", "sets": {}}]}, "row 'a': sets is not a field; did you mean 'set'?"),
    ({"compare": [{"name": "a", "set": [1]}]}, "row 'a': set = [1] is no mapping; write {net.depth: 56}"),
    ({"compare": [{"name": "a", "published": ["table9"]}]}, "row 'a': published = 'table9' is no known figure"),
    ({"compare": [{"name": "a"}, {"name": "b", "against": "c"}]}, "row 'b': against = 'c' is no row"),
    ({"compare": [{"name": "a", "against": "a"}]}, "row 'a' is compared with itself"),
    ({"space": {"net.version": ["v1", "v2"]}}, "space and compare exclude each other"),
    ({"start": ["resnet20"]}, "start and compare exclude each other"),
    ({"limits": {"params": "1M"}}, "limits and compare exclude each other"),
    ({"search": {"trials": 5}}, "search.trials = 5 has no effect"),
    ({"search": {"sampler": "random"}}, "search.sampler = random has no effect"),
    ({"search": {"time_budget": "1h"}}, "set finals.time_budget instead"),
    ({"search": {"max_cost": "5 eur"}}, "search.max_cost = 5 EUR has no effect"),
    ({"search": {"gpu_hours": 5}}, "set finals.time_budget instead"),
    ({"search": {"target": {"val_error": 5}}}, "search.target = {'val_error': 5.0} has no effect"),
    ({"train": {"seed": 1}}, "train.seed = 1 cannot be set: every row has the same seeds"),
]
SETS: list[tuple[dict[str, Any], str]] = [  # what a row sets
    ({"net.dept": 20}, "row 'a': net.dept is not a field; did you mean 'net.depth'?"),
    ({"net.depth": 15}, "row 'a': net depth 15 is not 6n+2"),
    ({"train.lr": -1}, "row 'a': train.lr = -1"),
    ({"train.epochs": 3}, "row 'a': train.epochs = 3 cannot be set here"),
    ({"train.seed": 3}, "row 'a': train.seed = 3 cannot be set here"),
    ({"net.num_classes": 3}, "row 'a': net.num_classes follows from the data set"),
    ({"net.gate_bias": -6}, "row 'a': net.gate_bias has no effect on this network"),
    ({"net.family": "imagenet", "net.depth": 18}, "row 'a': image size 8x8 does not survive"),
    ({"net.shortcut": "identity"}, "rows 'first' and 'a' are the same network"),
]
SCALES: list[tuple[dict[str, Any], str]] = [  # no scale a
    ({"scales": {"a": ["compare=[plane]"]}}, "compare: 'plane' is no row; did you mean 'plain'?"),
    ({"scales": {"a": ["compare=[deep]"]}}, "compare: row 'deep': against = 'plain' is no row"),
    ({"scales": {"a": ["compare.plane.net.depth=8"]}}, "net.depth: no row is named so; did you mean 'plain'?"),
    ({"scales": {"a": ["net.depth"]}}, "scales.a: net.depth has no `=`; write KEY=VALUE, such as train.lr=0.1"),
    ({"scales": {"a": ["net.depth=["]}}, "scales.a: net.depth=[: cannot be read (line 1"),
    ({"scales": {"a": {"net.depth": 8}}}, "scales.a = {'net.depth': 8} is no list; write [ONE, ANOTHER]"),
    ({"scales": {"b": ["net.depth=8"]}}, "--scale a is unknown; choose from b"),
    ({"scales": {}}, "--scale a: study 'mine' has no scales; leave --scale out"),
    ({"scales": ["a"]}, "scales = ['a'] is no mapping; write {KEY: VALUE}"),
    (ONE | {"scale": "a"}, "scale = 'a' is no mapping; write {KEY: VALUE}"),
    (ONE | {"train": 3}, "train"),
    (ONE | {"finals": 3}, "finals"),
    (ONE | {"compare": 3}, "compare = 3 is no list of rows"),
]


@pytest.mark.parametrize(
    ("changes", "scale", "says"),
    [
        *((changes, None, says) for changes, says in REFUSED),
        *(({"compare": [{"name": "first"}, {"name": "a", "set": given}]}, None, says) for given, says in SETS),
        *((changes, "a", says) for changes, says in SCALES),
    ],
)
def test_what_is_no_comparison_or_no_scale_is_refused(
    file: Path, changes: dict[str, Any], scale: str | None, says: str
) -> None:
    with pytest.raises(InputError) as told:
        load(edited(file, **changes), scale_name=scale).rows(SHAPE, CLASSES)
    assert says in str(told.value)


def test_a_scale_changes_the_study_and_says_what(file: Path) -> None:
    full, smoke = load(file), load(file, scale_name="smoke")
    assert (full.name, full.epochs, full.finals.seeds, full.scale) == ("mine", 4, 3, None)
    assert (smoke.name, smoke.epochs, smoke.finals.seeds) == ("mine-smoke", 1, 2)
    assert [row.params["net.depth"] for row in smoke.rows(SHAPE, CLASSES)] == [14, 14, 8]
    assert smoke.scale is not None
    assert smoke.scale.name == "smoke"
    assert smoke.scale.changed == {"net.depth": ([14, 20], [14, 8]), "train.epochs": (4, 1), "finals.seeds": (3, 2)}


def test_a_scale_runs_some_rows_and_a_row_keeps_what_it_sets(file: Path) -> None:
    small = load(file, scale_name="small")
    assert [row.name for row in small.compare] == ["original", "plain"]
    assert small.scale is not None
    assert small.scale.changed == {"net.depth": (14, 8), "compare": (3, 2)}
    own = load(edited(file, scales={"other": ["net.depth=8"]}), scale_name="other")
    assert [row.params["net.depth"] for row in own.rows(SHAPE, CLASSES)] == [8, 8, 20]


def test_flags_win_over_a_scale_and_are_told_too(file: Path) -> None:
    spec = load(file, [("name", "quick"), ("train.epochs", 2), ("train.lr", 0.5)], "smoke")
    assert (spec.name, spec.epochs) == ("quick", 2)
    assert spec.scale is not None
    assert spec.scale.changed["train.epochs"] == (4, 2)
    assert spec.scale.changed["train.lr"] == (0.1, 0.5)
    by_hand = load(file, [("train.epochs", 2)])
    assert by_hand.scale is not None
    assert (by_hand.scale.name, by_hand.scale.changed) == (None, {"train.epochs": (4, 2)})


def test_a_study_goes_on_at_its_scale(file: Path, tmp_path: Path) -> None:
    begun = load(file, scale_name="smoke")
    copy = tmp_path / "study.yaml"
    copy.write_text(begun.to_yaml())
    assert load(copy, scale_name="smoke") == begun
    changed = load(copy, [("train.epochs", 4)])
    assert changed.scale is not None
    assert "train.epochs" not in changed.scale.changed, "epochs are as published again"
    with pytest.raises(InputError, match="begun at scale smoke"):
        load(copy, scale_name="small")
    copy.write_text(load(file).to_yaml())
    assert load(copy, scale_name="smoke") == begun


def test_a_study_that_searches_has_scales_too(tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    path.write_text("space: {net.depth: [8, 14]}\nscales: {quick: [search.trials=2, 'space.net.depth=[8, 20]']}")
    spec = load(path, scale_name="quick")
    assert (spec.name, spec.search.trials, spec.space) == ("wide-quick", 2, {"net.depth": [8, 20]})
    assert spec.scale is not None
    assert (spec.scale.name, spec.scale.changed) == ("quick", {})


@pytest.mark.usefixtures("alone")
def test_command_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown; choose from small, smoke" in refusal([str(file), "--scale", "huge"], capsys)
    assert "search.trials = 5 has no effect" in refusal([str(file), "--trials", "5"], capsys)
    assert "row 'plain'" in refusal([str(file), "--set", "compare=[{name: plain, set: {net.depth: 3}}]"], capsys)
    assert "row 'plain'" in refusal([str(file), "--set", "compare.plain.net.depth=3"], capsys)
    assert main([str(file), "--scale", "smoke", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "rows: 3, each against 'original'" in out
    assert "published 6.61 % (median of 5 runs, arXiv:1603.05027)" in out
    assert "trainings: 6 (3 rows, 2 seeds), each of 1 epoch over 1,438 images" in out, "scikit-learn has 1,797 images"
    assert "train.epochs: 1 in place of 4" in out
    assert "estimate: " in out


def test_time_is_linear_between_the_two_that_were_timed() -> None:
    found = seconds_an_image([10, 30, 20], Timed(100.0, None), Timed(50.0, None))
    assert found == pytest.approx([0.01, 0.02, 0.015])
    assert seconds_an_image([10, 10], Timed(100.0, None), Timed(90.0, None)) == [0.01, 0.01]
