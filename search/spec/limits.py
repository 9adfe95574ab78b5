"""What a network may cost, checked on the meta device, and the smallest and largest networks of a space."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from resnet import cost, reaches_first_unit
from resnet.costs import Cost
from resnet.route import reason
from resnet.spec import NetSpec
from search.spec.sections import LimitSpec
from search.spec.space import Space
from search.spec.trial import TrialSpec

_LOST = 1.0  # how far beyond the limit a network is whose signal is lost: there is no half of it


@dataclass(frozen=True)
class Appraisal:
    """What a trial would cost, before it is run."""

    params: int
    macs: int  # of one image
    activation_bytes: int  # of a batch
    excess: Mapping[str, float]  # limit -> logarithm of the cost over it; above 0 where it is exceeded
    reason: str | None  # which limits are exceeded, in words


def appraise(spec: TrialSpec, image: tuple[int, int], limits: LimitSpec) -> Appraisal:
    """What a trial on images of `image` (height, width) would cost, and whether that is within the limits.

    Milliseconds: see `resnet.cost`. The signal is judged by its closed form (`resnet.route`), of 1603.05027, Eqn. 7.

    Raises:
        ValueError: the network is not for images of this size.
    """
    price = cost(spec.net, image)
    memory = price.activation_bytes * spec.train.batch_size
    excess: dict[str, float] = {}
    reasons = []
    for name, value in (("params", price.params), ("macs", price.macs), ("activation_memory", memory)):
        limit: int | None = getattr(limits, name)
        if limit is None:
            continue
        excess[name] = math.log(value / limit)
        if value > limit:
            reasons.append(f"{name} {value:,} above the limit of {limit:,}")
    if limits.signal:
        reached = reaches_first_unit(spec.net)
        excess["signal"] = -_LOST if reached else _LOST
        if not reached:
            reasons.append(f"the gradient cannot reach the first unit: {reason(spec.net)}")
    return Appraisal(price.params, price.macs, memory, excess, "; ".join(reasons) or None)


GROWING = ("net.depth", "net.width")  # more of these is more parameters and more work, so only the ends are built


def smallest_and_largest(space: Space, image: tuple[int, int]) -> list[tuple[Cost, NetSpec]]:
    """The networks of the fewest and of the most parameters, with their costs."""
    priced = sorted(
        ((cost(net, image), net) for net in set(extremes(space))), key=lambda pair: (pair[0].params, pair[0].macs)
    )
    return [priced[0], priced[-1]]


def extremes(space: Space) -> Iterator[NetSpec]:
    """Networks among which the smallest and the largest are."""
    nets = Space(tuple(d for d in space.dimensions if d.path.startswith("net.")), space.fixed)
    for chosen in nets.combinations(values=False):
        if all(chosen[d.path] in _ends(d.extremes) for d in space.dimensions if d.path in GROWING and d.path in chosen):
            yield TrialSpec.from_flat(chosen).net


def _ends(values: tuple[object, ...]) -> tuple[object, object]:
    numbers = [v for v in values if isinstance(v, int | float)]
    return min(numbers), max(numbers)
