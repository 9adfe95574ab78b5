"""Which depths there are, and how many residual units each stage has at a depth."""

from collections.abc import Mapping
from dataclasses import dataclass

from resnet.kinds import Family, Unit

Blocks = tuple[int, ...]  # residual units by stage


@dataclass(frozen=True)
class Linear:
    """The depths step*n + 2 for n = 1, 2, ...: n units in each of `stages` stages, stem and classifier."""

    step: int
    stages: int

    def __str__(self) -> str:
        return f"{self.step}n+2"

    def __contains__(self, depth: int) -> bool:
        return depth > 2 and (depth - 2) % self.step == 0

    def near(self, depth: int) -> tuple[int, ...]:
        """The valid depths next to one that is not: below and above, where there are such."""
        below = (depth - 2) // self.step * self.step + 2
        return tuple(near for near in (below, below + self.step) if near in self) or (self.step + 2,)

    def blocks(self, depth: int) -> Blocks:
        """Residual units by stage at a valid depth."""
        return ((depth - 2) // self.step,) * self.stages


@dataclass(frozen=True)
class Listed:
    """Depths that a table lists; the methods are those of `Linear`."""

    table: Mapping[int, Blocks]

    def __str__(self) -> str:
        return " or ".join(map(str, self.table))

    def __contains__(self, depth: int) -> bool:
        return depth in self.table

    def near(self, depth: int) -> tuple[int, ...]:
        below, above = [d for d in self.table if d < depth], [d for d in self.table if d > depth]
        return (*below[-1:], *above[:1])

    def blocks(self, depth: int) -> Blocks:
        return self.table[depth]


Depths = Linear | Listed  # as a string, the rule
_IMAGENET = {
    # 1512.03385, Table 1; 200: 1603.05027, footnote 3
    Unit.BASIC: Listed({18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}),
    Unit.BOTTLENECK: Listed({50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}),
}
_VALID: Mapping[Family, Mapping[Unit, Depths]] = {
    Family.CIFAR: {Unit.BASIC: Linear(6, 3), Unit.BOTTLENECK: Linear(9, 3), Unit.SINGLE: Linear(3, 3)},
    Family.IMAGENET: _IMAGENET,
    Family.ARTICLE: {Unit.BASIC: Listed({6: (1, 1)})},
}


def valid_depths(family: Family) -> Mapping[Unit, Depths]:
    """The units that a family has, and the depths of each."""
    return _VALID[family]


def default_unit(family: Family, depth: object) -> Unit:
    """Basic; in the ImageNet family the unit that 1512.03385, Table 1, has at the depth (or at the nearest one).

    `depth` may be anything, for a search asks before the depth is checked.
    """
    if family != Family.IMAGENET or not isinstance(depth, int):
        return Unit.BASIC
    return min(_IMAGENET, key=lambda unit: min(abs(depth - listed) for listed in _IMAGENET[unit].table))
