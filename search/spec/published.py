"""The papers' own figures: of which network, on which data, by which statistic; for a report to set beside ours.

And recipes: how the networks of some of them were trained, by name.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from resnet.names import OF_DATA, name_of
from resnet.spec import NetSpec
from search.errors import InputError, hint
from search.spec.plain_yaml import is_list
from search.spec.trial import TrainSpec, TrialSpec, Value

_CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
_OF_STUDY = ("epochs", "batch_size", "start", "seed")  # that a recipe leaves to the study


@dataclass(frozen=True)
class Figure:
    """A test error that a paper prints, or what it prints in place of one. Errors in percent."""

    FAIL: ClassVar[float] = 20.0  # percent: what Table 1 of 1603.05027 prints as "fail" is above it

    key: str  # paper/place/row
    data: str
    nets: tuple[NetSpec, ...]  # of which it is: mostly one
    train: TrainSpec  # the paper's recipe
    images: int  # that it was trained on
    statistic: str
    source: str
    error: float | None  # None where the paper prints no number
    fail: bool = False  # "fail" is printed: above `FAIL`
    above: float | None = None  # a lower bound is printed
    mean: float | None = None
    std: float | None = None
    runs: int | None = None  # of mean and std
    note: str | None = None  # how `train` differs from the recipe, for which there are no fields

    @property
    def least(self) -> float | None:
        """What the error is at least: the number itself, or a bound."""
        return self.error if self.error is not None else self.above if self.above else self.FAIL if self.fail else None

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.error:.2f} %"
        return "fail" if self.fail else f"> {self.above:g} %" if self.above else "no number"

    @staticmethod
    def keys() -> tuple[str, ...]:
        """Keys of all figures."""
        return tuple(_figures())

    @staticmethod
    def of(key: str) -> "Figure":
        """The figure of a key.

        Raises:
            InputError: there is none.
        """
        if key not in _figures():
            raise InputError(f"published figure {key!r} is unknown; {hint(key, Figure.keys())}")
        return _figures()[key]

    def beside(self, params: Mapping[str, Any], data_name: str, images: int | None = None) -> "Found":
        """The figure with everything but the seed that was done in another way.

        Where it is of several networks, the nearest of them counts.

        Args:
            params: flat view of a trial.
            data_name: of the data set, such as cifar10.
            images: that it was trained on, if that is to be compared too.

        Raises:
            InputError: the view is of no trial.
        """
        trial = TrialSpec.from_flat(params)
        candidates = [TrialSpec(net=net.model_copy(update=_of_data(trial.net)), train=self.train) for net in self.nets]
        found = min((_different(candidate, trial) for candidate in candidates), key=len)
        if self.data != data_name:
            found = {"data.name": (self.data, data_name), **found}
        if images is not None and self.images != images:
            found["images"] = (self.images, images)
        return Found(self, found)

    @staticmethod
    def of_network(params: Mapping[str, Any], data_name: str, images: int | None = None) -> "tuple[Found, ...]":
        """Those of exactly this network on this data set, in the order of the papers; mostly none. As `beside`."""
        known = [one for one in _figures().values() if one.data == data_name]
        if not known:
            return ()
        net = _design(TrialSpec.from_flat(params).net)
        return tuple(one.beside(params, data_name, images) for one in known if net in map(_design, one.nets))


@dataclass(frozen=True)
class Found:
    """A published figure of a configuration, and what was done in another way than in the paper."""

    figure: Figure
    differences: dict[str, tuple[Any, Any]]  # path -> (in the paper, here); empty: by the paper's recipe


@dataclass(frozen=True)
class Recipe:
    """A published way to train, as near as the fields of `TrainSpec` come to it."""

    name: str
    figure: Figure  # what it is known for

    def __str__(self) -> str:
        one = self.figure
        return f"{name_of(one.nets[0])} at {one} on {one.data} ({one.source}); {one.note}"

    @staticmethod
    def names() -> tuple[str, ...]:
        """Names of all recipes."""
        return tuple(_recipes())

    @staticmethod
    def of(name: str) -> "Recipe":
        """The recipe of a name.

        Raises:
            InputError: there is none.
        """
        if name not in _recipes():
            raise InputError(f"recipe {name!r} is unknown; {hint(name, Recipe.names())}")
        return _recipes()[name]

    def values(self, batch_size: int) -> dict[str, Value]:
        """What it says, by path, for a study's batches.

        A published rate is scaled with the batch (arXiv:1706.02677, section 2.1); the optimizer's own stays as it is.
        """
        train = self.figure.train
        found = {path: value for path, value in TrialSpec(train=train).flat().items() if path.startswith("train.")}
        if "lr" in train.model_fields_set:
            found["train.lr"] = train.lr * batch_size / train.batch_size
        return {path: value for path, value in found.items() if path.removeprefix("train.") not in _OF_STUDY}


def _different(paper: TrialSpec, ours: TrialSpec) -> dict[str, tuple[Any, Any]]:
    theirs, here = paper.flat(), ours.flat()
    paths = [path for path in TrialSpec.paths() if path in {**theirs, **here} and path != "train.seed"]
    return {path: (theirs.get(path), here.get(path)) for path in paths if theirs.get(path) != here.get(path)}


def _of_data(net: NetSpec) -> dict[str, int]:
    return {name: getattr(net, name) for name in OF_DATA}


def _design(net: NetSpec) -> NetSpec:
    """The network without what follows from the images."""
    return NetSpec(**net.model_dump(exclude=set(OF_DATA)))


@cache
def _recipes() -> dict[str, Recipe]:
    return {name: Recipe(name, Figure.of(key)) for name, key in _raw()["recipes"].items()}


@cache
def _figures() -> dict[str, Figure]:
    raw = _raw()
    found: dict[str, Figure] = {}
    for entry in raw["figures"]:
        paper = raw["papers"][entry.pop("paper")]
        nets = tuple(NetSpec(num_classes=_CLASSES[entry["data"]], **net) for net in _each(entry.pop("net")))
        train = TrainSpec(**(paper["train"] | entry.pop("train", {})))
        found[entry["key"]] = Figure(nets=nets, train=train, images=paper["images"], **entry)
    return found


def _raw() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "published.json").read_text(encoding="utf-8"))


def _each(net: Mapping[str, Any] | list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every network of an entry; a list of values stands for a network with each of them."""
    if isinstance(net, list):
        for one in net:
            yield from _each(one)
        return
    for values in product(*(value if is_list(value) else [value] for value in net.values())):
        yield dict(zip(net, values, strict=True))
