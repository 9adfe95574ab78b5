"""What a network may cost, checked on the meta device."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from resnet import cost, reaches_first_unit
from resnet.route import reason
from search.spec.sections import LimitSpec
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
    latency_ms: float | None = None  # None where networks are not timed

    def refused(self, limit: str, excess: float, reason: str) -> "Appraisal":
        """The same, beyond one limit more."""
        return replace(
            self, excess={**self.excess, limit: excess}, reason="; ".join(filter(None, (self.reason, reason)))
        )


def appraise(spec: TrialSpec, image: tuple[int, int], limits: LimitSpec) -> Appraisal:
    """What a trial on images of `image` (height, width) would cost, and whether that is within the limits.

    Milliseconds: see `resnet.cost`. The signal is judged by its closed form (`resnet.route`), of 1603.05027, Eqn. 7.

    Raises:
        ValueError: the network is not for images of this size.
    """
    price = cost(spec.net, spec.train.sides(image))
    memory = price.activation_bytes * spec.train.batch_size
    excess: dict[str, float] = {}
    reasons = list[str]()
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
