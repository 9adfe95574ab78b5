"""The papers' own studies: each row is what the paper says, trained as it says."""

import json
from pathlib import Path
from typing import Any

import pytest

from resnet import cost
from search.spec import Configuration, Figure, StudySpec, find, load
from search.spec.overrides import Scale

PAPERS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "support" / "papers.json").read_text())
STUDIES = {
    "paper-shortcuts": 12,
    "paper-activations": 10,
    "paper-preact": 8,
    "paper-preact-cifar100": 4,
    "degradation": 10,
}
SCALES = ("cpu", "gpu-hour", "smoke")
FEW_CORES = 3600 * 2 / 3  # seconds: 40 minutes
MACS_A_SECOND = 362 * 40_551_040  # ResNet-20, two trials on two cores: benchmarks/results/2026-11-23-trial-speed.md


def item(section: str, name: str) -> Any:
    return next(entry["value"] for entry in PAPERS[section] if entry["item"] == name)


def configurations(spec: StudySpec) -> tuple[Configuration, ...]:
    shape = (8, 8, 1) if spec.data.name == "digits" else (32, 32, 3)
    return spec.rows(shape, 100 if spec.data.name == "cifar100" else 10)


@pytest.mark.parametrize("name", STUDIES)
def test_every_row_is_the_published_configuration(name: str) -> None:
    spec = load(find(name))
    assert (spec.name, spec.scale) == (name, None)
    rows = configurations(spec)
    assert len(rows) == STUDIES[name]
    for row in rows:
        (key,) = row.published
        assert Figure.of(key).beside(row.params, spec.data.name, 50_000).differences == {}, row.label


@pytest.mark.parametrize("name", STUDIES)
def test_recipe(name: str) -> None:
    spec = load(find(name))
    paper = "v1_cifar_recipe" if name == "degradation" else "v2_implementation"
    batch = "batch size" if name == "degradation" else "batch"
    for row in configurations(spec):
        train = row.trial.train
        assert str(train.batch_size) in item(paper, batch).split()[0]
        assert (train.momentum, train.weight_decay) == (item(paper, "momentum"), item(paper, "weight decay"))
        assert item(paper, "learning rate").startswith(f"{train.lr:g}, ")
        assert (train.nesterov, train.flip, train.crop_padding) == (False, True, 4)
        deep = row.trial.net.depth == 110
        assert train.warmup_steps == (400 if deep or name != "degradation" else 0)
    (whole,) = (entry for entry in PAPERS["v1_cifar_recipe_epochs"] if entry["train_images"] == 50_000)
    steps = 50_000 // 128  # the last, incomplete batch is left out
    assert spec.epochs == round(whole["epochs_at_64k"])
    for share, iterations in ((0.5, 32_000), (0.75, 48_000), (1, 64_000)):
        assert share * spec.epochs * steps == pytest.approx(iterations, rel=1e-3)
    assert (spec.finals.seeds, spec.finals.max_seeds) == (5, 5)


def test_the_tables_are_whole() -> None:
    for name, place, entries in (
        ("paper-shortcuts", "table1", len(PAPERS["v2_table1_shortcuts"])),
        ("paper-activations", "table2", 2 * len(PAPERS["v2_table2_activation"])),
        ("degradation", "table6", len(PAPERS["v1_cifar10_table6"]) - 1),  # not ResNet-1202
    ):
        keys = {key for row in load(find(name)).compare for key in row.published if f"/{place}/" in key}
        assert len(keys) == entries
    three = [row for name in ("paper-preact", "paper-preact-cifar100") for row in load(find(name)).compare]
    assert len({row.published for row in three}) == 2 * len(PAPERS["v2_table3_preact_vs_original"])


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("scale", SCALES)
def test_scales(name: str, scale: str, tmp_path: Path) -> None:
    full, spec = load(find(name)), load(find(name), scale_name=scale)
    assert tuple(full.scales) == SCALES
    assert spec.name == f"{name}-{scale}"
    assert isinstance(spec.scale, Scale)
    assert spec.scale.changed["train.epochs"] == (164, spec.epochs)
    assert 1 < spec.finals.seeds == spec.finals.max_seeds < 5
    rows = configurations(spec)
    assert len(rows) == (len(full.compare) if scale != "gpu-hour" else len(spec.compare))
    for row in rows:
        row.trial.net.check_image(*((8, 8) if scale == "smoke" else (32, 32)))
        net, of = row.trial.net, Figure.of(row.published[0]).nets[0]
        assert (net.unit, net.version) == (of.unit, of.version), row.label
        assert net.depth <= of.depth
    copy = tmp_path / "study.yaml"
    copy.write_text(spec.to_yaml())
    assert load(copy) == spec


@pytest.mark.parametrize("name", STUDIES)
def test_few_cores_are_enough(name: str) -> None:
    """By arithmetic: the work in ResNet-20s, of which two cores train 362 images/s; half of the time is left over."""
    spec = load(find(name), scale_name="cpu")
    assert spec.data.limit is not None
    images = spec.data.limit + spec.data.validation * 50_000
    assert images == 10_000
    work = sum(cost(row.trial.net, (32, 32)).macs for row in configurations(spec)) * spec.finals.seeds
    seconds = work * (images * spec.epochs + 10_000 / 3) / MACS_A_SECOND
    assert 0.3 * FEW_CORES < seconds < 0.8 * FEW_CORES
