"""The packaged figures against the reference data, entry by entry."""

import json
from pathlib import Path
from typing import Any

import pytest

from resnet import NetSpec, cost
from search.errors import InputError
from search.spec import Figure, Recipe, TrialSpec

PAPERS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "support" / "papers.json").read_text())
RECIPE = {  # 1512.03385, Sec. 4.2, in the words of TrainSpec
    "train.epochs": 164,
    "train.batch_size": 128,
    "train.lr": 0.1,
    "train.momentum": 0.9,
    "train.nesterov": False,
    "train.weight_decay": 1e-4,
    "train.schedule": "steps",
}


def of(place: str, **net: Any) -> Figure:
    """The one figure of a network in a table."""
    found = [f for f in map(Figure.of, Figure.keys()) if f"/{place}/" in f.key and NetSpec(**net) in f.nets]
    assert len(found) == 1, (place, net, found)
    return found[0]


def same(entry: dict[str, Any], found: Figure) -> None:
    assert (found.error, found.fail) == (entry["error_pct"], entry.get("fail", False))
    assert found.statistic == entry["statistic"]
    assert found.source == entry["source"]


@pytest.mark.parametrize("entry", PAPERS["v1_cifar10_table6"], ids=lambda e: e["network"])
def test_residual_nets_of_2015(entry: dict[str, Any]) -> None:
    found = of("table6", depth=entry["depth"])
    same(entry, found)
    assert (found.mean, found.std, found.runs) == tuple(entry.get(name) for name in ("mean", "std", "runs"))
    printed = entry["params_published"]  # such as 0.27M
    decimals = len(printed.partition(".")[2]) - 1
    assert f"{cost(found.nets[0], (32, 32)).params / 1e6:.{decimals}f}M" == printed
    assert found.train.warmup_steps == (400 if entry["depth"] == 110 else 0), "Sec. 4.2 warms up ResNet-110"


def test_plain_nets_of_2015() -> None:
    curves, bound = PAPERS["v1_cifar10_plain"][:2]
    assert not curves["numbers_published"]
    for depth in curves["depths"]:
        found = of("figure6", depth=depth, shortcut="none")
        assert (found.error, found.least, found.source, str(found)) == (None, None, curves["source"], "no number")
    found = of("figure6", depth=bound["depth"], shortcut="none")
    assert (found.above, found.source, str(found)) == (bound["error_pct_lower_bound"], bound["source"], "> 60 %")


@pytest.mark.parametrize("entry", PAPERS["v2_table1_shortcuts"], ids=lambda e: f"{e['case']} {e['remark']}")
def test_shortcuts(entry: dict[str, Any]) -> None:
    assert (entry["network"], entry["dataset"]) == ("ResNet-110", "CIFAR-10")
    net: dict[str, Any] = {"depth": 110, "shortcut": PAPERS["our_shortcuts"].get(entry["case"], "constant_scaling")}
    if net["shortcut"] == "constant_scaling":
        net |= {"shortcut_scale": entry["on_shortcut"], "residual_scale": entry["on_F"]}
    if entry["case"] == "dropout_shortcut":
        net["dropout"] = float(entry["on_shortcut"].split()[1])
    for bias in entry.get("bias_init", [None]):
        same(entry, of("table1", **net, **({} if bias is None else {"gate_bias": bias})))
    if entry["remark"] == "This is a plain net":
        same(entry, of("table1", depth=110, shortcut="none"))


@pytest.mark.parametrize("entry", PAPERS["v2_table2_activation"], ids=lambda e: e["case"])
def test_activations(entry: dict[str, Any]) -> None:
    for depth, unit in ((110, "basic"), (164, "bottleneck")):
        found = of("table2", depth=depth, unit=unit, version=PAPERS["our_orders"][entry["case"]])
        same({**entry, "error_pct": entry[f"resnet{depth}"]}, found)
        assert found.data == "cifar10"


@pytest.mark.parametrize(
    "entry", PAPERS["v2_table3_preact_vs_original"], ids=lambda e: f"{e['dataset']} {e['network']}"
)
def test_preactivation(entry: dict[str, Any]) -> None:
    name, _, layers = entry["network"].partition(" ")
    depth = int(name.partition("-")[2])
    unit = "single" if layers == "(1layer)" else "basic" if depth == 110 else "bottleneck"
    statistic = PAPERS["v2_implementation"][0]
    assert (statistic["item"], statistic["value"].partition(" for ")[0]) == ("statistic", "median of 5 runs")
    classes = int(entry["dataset"].partition("-")[2])
    for version, error in (("v1", entry["baseline_unit"]), ("v2", entry["preact_unit"])):
        found = of("table3", depth=depth, unit=unit, version=version, num_classes=classes)
        same({**entry, "error_pct": error, "statistic": "median of 5 runs"}, found)
        assert found.data == f"cifar{classes}"


def test_no_figure_is_of_our_own_making() -> None:
    """Each entry of the reference has its own figure (above), and there are no more than they make."""
    plain = len(PAPERS["v1_cifar10_plain"][0]["depths"]) + 1
    tables = len(PAPERS["v2_table1_shortcuts"]) + 2 * len(PAPERS["v2_table2_activation"])
    recipes = len(Recipe.names())  # each with its figure: tests/spec/test_recipes.py
    assert len(Figure.keys()) == len(PAPERS["v1_cifar10_table6"]) + plain + tables + recipes + 2 * len(
        PAPERS["v2_table3_preact_vs_original"]
    )


def test_a_configuration_that_is_published() -> None:
    params = TrialSpec.from_flat(RECIPE | {"net.depth": 20}).flat()
    (found,) = Figure.of_network(params, "cifar10", 50_000)
    assert (found.figure.key, found.differences) == ("1512.03385/table6/resnet20", {})
    (found,) = Figure.of_network(params | {"train.epochs": 30, "train.lr": 0.2}, "cifar10", 45_000)
    assert found.differences == {"train.epochs": (164, 30), "train.lr": (0.1, 0.2), "images": (50_000, 45_000)}
    assert Figure.of_network(params, "svhn") == ()
    assert Figure.of_network(params | {"net.width": 2.0}, "cifar10") == ()
    assert Figure.of_network(params | {"net.version": "v2"}, "cifar10") == (), (
        "no paper prints a pre-activation ResNet-20"
    )


def test_one_network_in_several_tables() -> None:
    params = TrialSpec.from_flat(RECIPE | {"net.depth": 110, "train.warmup_steps": 400, "train.seed": 3}).flat()
    found = Figure.of_network(params, "cifar10", 50_000)
    assert [f"{one.figure.error:.2f}" for one in found] == ["6.43", "6.61", "6.61", "6.61"]
    assert all(not one.differences for one in found)


def test_classes_part_the_data_sets() -> None:
    params = {"net.depth": 164, "net.unit": "bottleneck", "net.num_classes": 100}
    assert [one.figure.error for one in Figure.of_network(params, "cifar100")] == [25.16]


def test_the_nearest_of_several_networks_counts() -> None:
    gates = Figure.of("1603.05027/table1/exclusive_gate_0_to_-5")
    params = RECIPE | {
        "net.depth": 110,
        "net.shortcut": "exclusive_gate",
        "net.gate_bias": -5,
        "train.warmup_steps": 400,
    }
    assert gates.beside(params, "cifar10").differences == {}
    assert gates.beside(params | {"net.depth": 20}, "fashion-mnist").differences == {
        "data.name": ("cifar10", "fashion-mnist"),
        "net.depth": (110, 20),
    }


def test_an_unknown_figure() -> None:
    with pytest.raises(InputError, match=r"did you mean '1603.05027/table1/dropout'"):
        Figure.of("1603.05027/table1/dropouts")
