"""Can the signal reach the first unit before training? Closed forms, from the specification alone.

1603.05027, Eqn. 7: with h(x) = lambda x, the gradient of the loss E reaches unit l as a sum of two terms, the product
of the lambdas above times dE/dx_L (the direct path, over shortcuts alone), and what comes through residual branches.
docs/signal.md compares what is said here with what the papers report.
"""

from enum import StrEnum
from math import exp, pi, prod

from resnet.kinds import Shortcut
from resnet.spec import NetSpec

# float32 has 24 bits: of two terms that differ by more, the smaller is lost when they are added.
LEAST, MOST = 2.0**-24, 2.0**24


class Route(StrEnum):
    """The way on which the gradient reaches the first unit, or what keeps it from there."""

    SHORTCUTS = "shortcuts"  # the direct path is open
    PROJECTIONS = "projections"  # random 1x1 convolutions on every shortcut: nothing is known against them
    BRANCHES = "branches"  # the direct path is closed, but the net shallow enough for the residual branches
    LOST = "lost"  # the direct path is closed, and the net too deep for the residual branches
    EXPLODES = "explodes"  # the direct path multiplies by more than float32 resolves


def shortcut_gain(spec: NetSpec) -> float | None:
    """The product of the shortcuts' multipliers over all units at initialisation (1603.05027, Eqn. 7); microseconds.

    Identity 1, plain net 0, scaling lambda^L, gates (1 - sigmoid(b_g))^L as in Sec. 3.1 (where W_g x = 0); inf where
    a float is too small for it. Dropout (1-p)^L, the expected product of Sec. 3.2 and the share of elements that no
    unit drops. None for a 1x1 convolution in every unit: a random matrix has no closed form. The two or three units
    that change dimension count as if they kept it (Sec. 3, footnote 1); activations after the sum are left out.
    """
    multiplier = _multiplier(spec)
    # a product by hand: 2.0**3333 raises an OverflowError
    return None if multiplier is None else prod([multiplier] * sum(spec.blocks))


def _multiplier(spec: NetSpec) -> float | None:
    """Of one unit's shortcut."""
    match spec.shortcut:
        case Shortcut.IDENTITY:
            return 1.0
        case Shortcut.NONE:
            return 0.0
        case Shortcut.CONSTANT_SCALING:
            return spec.shortcut_scale
        case Shortcut.EXCLUSIVE_GATE | Shortcut.SHORTCUT_ONLY_GATE:
            b = spec.gate_bias  # 1 - sigmoid(b), in two forms because exp overflows for large b
            return exp(-b) / (1 + exp(-b)) if b > 0 else 1 / (1 + exp(b))
        case Shortcut.DROPOUT:
            return 1 - spec.dropout
        case Shortcut.CONV1X1:
            return None


def branch_gain(spec: NetSpec) -> float:
    """By how much the gradient's norm grows through the residual branches alone, at initialisation.

    Its square grows by 1 / (1 - 1/pi) = 1.467 a layer, where layers are wide and images unlike (1902.08129): ReLU
    halves it, He's weights double it, batch normalisation divides it by the variance that ReLU leaves of 1, which is
    1 - 1/pi. Whatever constant scales F, the next normalisation takes it out again, but for 0.
    """
    if spec.residual_scale == 0:
        return 0.0
    return prod([(1 - 1 / pi) ** -0.5] * (spec.depth - 2))  # all layers but the stem and the classifier


def route(spec: NetSpec) -> Route:
    """How the gradient reaches the first unit before training, from the closed forms alone; microseconds."""
    gain = shortcut_gain(spec)
    if gain is None:
        return Route.PROJECTIONS
    if abs(gain) > MOST:
        return Route.EXPLODES
    if abs(gain) >= LEAST:
        return Route.SHORTCUTS
    return Route.BRANCHES if LEAST <= branch_gain(spec) <= MOST else Route.LOST


def reaches_first_unit(spec: NetSpec) -> bool:
    """Whether the signal can reach the first unit before training, from the closed forms alone; microseconds.

    In the papers' tables every net with a False fails or ends at twice the error of the identity shortcut; a net with a
    True may fail for another reason (docs/signal.md).
    """
    return route(spec) not in (Route.LOST, Route.EXPLODES)


def reason(spec: NetSpec) -> str:
    """The closed forms in words, for the route that they leave open."""
    layers = spec.depth - 2
    gain, units = shortcut_gain(spec), sum(spec.blocks)
    if gain is None:
        return f"its {units} shortcuts are random 1x1 convolutions, whose product has no closed form"
    none = spec.shortcut is Shortcut.NONE
    direct = "it finds no shortcut" if none else f"{units} shortcuts multiply it by {gain:.2g}"
    match route(spec):
        case Route.SHORTCUTS | Route.PROJECTIONS:
            return direct
        case Route.BRANCHES:
            return f"{direct}, but {layers} layers in residual branches are few enough to train without"
        case Route.LOST:
            return f"{direct}, and {layers} layers in residual branches are too many to train without"
        case Route.EXPLODES:
            return f"{direct}, more than float32 resolves"
