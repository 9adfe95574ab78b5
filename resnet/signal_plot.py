"""The picture of a Signal: forward scale above, gradient below, by unit."""

from itertools import accumulate
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from resnet.signal import Signal


def plot_signal(signal: "Signal") -> Figure:
    """Two panels on log axes over the units 0 to L, dotted lines where a stage ends; the verdict as title."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    figure.suptitle(signal.verdict, wrap=True, fontsize="medium")  # pyright: ignore[reportUnknownMemberType]
    forward, backward = figure.subplots(2, sharex=True)
    forward.set_ylabel("RMS of $x_l$")
    backward.set_ylabel(r"$L_2$ norm of $\partial E / \partial x_l$")
    backward.set_xlabel("unit $l$ ($x_0$: input of the first unit, $x_l$: output of unit $l$)")
    for axes, values in ((forward, signal.rms), (backward, signal.gradient_norm)):
        axes.semilogy(values, marker=".")
        for end in list(accumulate(signal.spec.blocks))[:-1]:
            axes.axvline(end, color="grey", linestyle=":")
    return figure
