"""The page of `quality`: how soon each search is as good as random search, and its regrets, with intervals."""

import datetime
from collections.abc import Mapping

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.report import RESULTS, publish, table

RESAMPLES = 2_000
Curves = Mapping[tuple[int, str], NDArray[np.float64]]  # (task, search) -> regret of each seed (rows) by budget


def write(
    curves: Curves,
    budgets: NDArray[np.float64],
    short: float,
    baseline: str,
    workers: int,
    timed: bool,
    took: float,
    out: bool,
) -> None:
    """Prints the page; with `out` writes it, and its plot, to results/."""
    tasks, searches = list(dict.fromkeys(t for t, _ in curves)), list(dict.fromkeys(s for _, s in curves))
    seeds = len(curves[tasks[0], searches[0]])
    others = [s for s in searches if s != baseline]
    unit = "seconds" if timed else "epochs"
    note = (
        f"{len(tasks)} tasks, n = {seeds} seeds, {workers} asynchronous workers in simulated time; {took:,.0f} s of "
        f"this machine. Budgets in whole trainings, counted in {unit}. Brackets: 95 % bootstrap intervals over seeds."
    )
    called = "search-quality-timed" if timed else "search-quality"
    name = f"{datetime.date.today()}-{called}.png"
    parts = [
        note,
        "How many times less budget a search needs for the mean regret that random search has after "
        f"{budgets[-1]:g} trainings (at most {short:g} were given; 0: not reached):",
        table(
            ["search", *map(str, tasks), "median"],
            [_speedups(curves, budgets, short, baseline, s, tasks) for s in others],
        ),
        f"Mean regret in percent points after {budgets[-1] / 5:g} trainings:",
        table(["search", *map(str, tasks)], [_regrets(curves, budgets, s, tasks) for s in searches]),
    ]
    if out:
        _plot(curves, budgets, short, baseline, tasks, searches).savefig(RESULTS / name, dpi=110)
        parts.append(f"![mean regret against budget, a panel for each task]({name})")
    publish(called, "Search quality on LCBench's learning curves", parts, out)


def speedup(
    ours: NDArray[np.float64], random: NDArray[np.float64], budgets: NDArray[np.float64], short: float
) -> float:
    """Budget after which random search ends, over the one after which `ours` has its mean regret; 0: never."""
    reached = np.flatnonzero((ours.mean(axis=0) <= random.mean(axis=0)[-1]) & (budgets <= short))
    return float(budgets[-1] / budgets[reached[0]]) if len(reached) else 0.0


def _speedups(
    curves: Curves, budgets: NDArray[np.float64], short: float, baseline: str, search: str, tasks: list[int]
) -> list[str]:
    draw, cells, middles = np.random.default_rng(0), [], []
    for task in tasks:
        ours, random = curves[task, search], curves[task, baseline]
        seeds = len(ours)
        resampled = [
            speedup(ours[draw.integers(seeds, size=seeds)], random[draw.integers(seeds, size=seeds)], budgets, short)
            for _ in range(RESAMPLES)
        ]
        low, high = np.quantile(resampled, [0.025, 0.975])
        middles.append(speedup(ours, random, budgets, short))
        cells.append(f"{middles[-1]:.1f} [{low:.1f}, {high:.1f}]")
    return [search, *cells, f"{np.median(middles):.1f}"]


def _regrets(curves: Curves, budgets: NDArray[np.float64], search: str, tasks: list[int]) -> list[str]:
    draw, cells = np.random.default_rng(0), []
    fifth = int(np.searchsorted(budgets, budgets[-1] / 5))
    for task in tasks:
        at = curves[task, search][:, fifth]
        means = at[draw.integers(len(at), size=(RESAMPLES, len(at)))].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        cells.append(f"{at.mean():.2f} [{low:.2f}, {high:.2f}]")
    return [search, *cells]


def _plot(
    curves: Curves, budgets: NDArray[np.float64], short: float, baseline: str, tasks: list[int], searches: list[str]
) -> Figure:
    columns = min(4, len(tasks))
    rows = -(-(len(tasks) + 1) // columns)
    figure, panels = pyplot.subplots(
        rows, columns, figsize=(4 * columns, 3.2 * rows), squeeze=False, layout="constrained"
    )
    for panel, task in zip(panels.flat, tasks, strict=False):
        for search in searches:
            shown = budgets <= (budgets[-1] if search == baseline else short)
            panel.plot(budgets[shown], curves[task, search].mean(axis=0)[shown], label=search)
        panel.set(title=f"OpenML task {task}", xscale="log", yscale="log", xlabel="whole trainings", ylabel="regret, %")
    for panel in panels.flat[len(tasks) :]:
        panel.axis("off")
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="lower right", fontsize="small")
    return figure
