"""What is checked of fields together: each error is one sentence with field, value and remedy."""

from collections.abc import Collection, Mapping
from enum import StrEnum

from resnet.depths import valid_depths
from resnet.fields import Fields
from resnet.kinds import Downsample, Family, Shortcut, Version

# What the article's code leaves no choice of.
_ARTICLE: Mapping[str, frozenset[StrEnum]] = {
    "version": frozenset({Version.V1, Version.V2}),
    "shortcut": frozenset({Shortcut.IDENTITY}),
    "downsample": frozenset({Downsample.PROJECTION}),
}


def check_choices(net: Fields) -> None:
    """Raise ValueError when the family does not have one of the choices."""
    for name, values in _ARTICLE.items() if net.family is Family.ARTICLE else ():
        _check_choice(net, name, values)
    _check_choice(net, "unit", valid_depths(net.family).keys())


def _check_choice(net: Fields, name: str, values: Collection[StrEnum]) -> None:
    value = getattr(net, name)
    if value not in values:
        known = ", ".join(sorted(values))
        raise ValueError(f"net {name} {value.value!r} does not exist in family={net.family.value}; choose from {known}")


def check_depth(net: Fields) -> None:
    """Raise ValueError when the family's unit does not have the depth."""
    rule = valid_depths(net.family)[net.unit]
    if net.depth in rule:
        return
    where = "" if net.family is Family.CIFAR else f"family={net.family.value} and "
    match rule.near(net.depth):
        case (below, above):
            remedy = f"the nearest valid depths are {below} and {above}"
        case (only,):
            remedy = f"the {'smallest' if only > net.depth else 'largest'} valid depth is {only}"
        case _:
            raise AssertionError(rule)
    raise ValueError(f"net depth {net.depth} is not {rule} for {where}unit={net.unit.value}; {remedy}")
