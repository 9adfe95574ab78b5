"""What MACs say of the time until an answer: `python -m benchmarks.trial.latency --out`.

Times networks drawn from a study's space as a search times them, then all of them once more. Says how MACs and latency
go together by rank; of those networks that a limit of MACs lets pass, how many are slower than the latency that it
stands for (that of the line through the logarithms of both); and how far the two timings of one network lie apart. The
core must be otherwise idle. It takes two minutes or so; with ONNX Runtime, for which each network is exported, ten.
"""

import argparse
import math
import random
from collections.abc import Sequence

from scipy.stats import linregress, spearmanr

from benchmarks import report
from benchmarks.report import publish, quartiles, table
from resnet import NetSpec, cost
from search import data
from search.formatting import plural
from search.spec import LatencySpec, find, load
from search.study import time_networks

LIMITS = (0.25, 0.5, 0.75)  # of MACs: what lets so large a part of the networks pass


def networks(study: str, count: int) -> tuple[list[NetSpec], tuple[int, int, int]]:
    """So many different networks of a shipped study, drawn with seed 0, and the shape of its images."""
    spec = load(find(study))
    info = data.check(spec.data)
    part = spec.make_space(info.shape, len(info.classes)).networks()
    every = list(dict.fromkeys(part.specify(chosen).net for chosen in part.combinations(values=True)))
    return random.Random(0).sample(every, min(count, len(every))), info.shape


def missed(macs: Sequence[int], times: Sequence[float]) -> list[tuple[str, ...]]:
    """Of each limit: its MACs, the latency that it stands for, how many networks pass, how many are slower."""
    line = linregress([math.log(m) for m in macs], [math.log(t) for t in times])
    rows: list[tuple[str, ...]] = []
    for part in LIMITS:
        limit = sorted(macs)[math.ceil(part * len(macs)) - 1]
        stands_for = math.exp(line.intercept + line.slope * math.log(limit))
        passing = [t for m, t in zip(macs, times, strict=True) if m <= limit]
        slower = [t for t in passing if t > stands_for]
        most = max(times[k] for k in range(len(times)) if macs[k] <= limit) / stands_for
        rows.append((f"{limit / 1e6:.0f}M", f"{stands_for:.2f}", str(len(passing)), str(len(slower)), f"{most:.2f}"))
    return rows


def arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, "latency", "not used: images do not matter")
    parser.add_argument("--study", default="cifar10", help="whose networks (cifar10)")
    parser.add_argument("--networks", type=int, default=30, help="how many (30)")
    runtimes = ("torch", "onnxruntime")
    parser.add_argument("--runtimes", nargs="+", choices=runtimes, default=["torch"], help="what runs them (torch)")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    nets, shape = networks(asked.study, asked.networks)
    macs, parts = [cost(net, shape[:2]).macs for net in nets], list[str]()
    for runtime in asked.runtimes:
        how = LatencySpec(runtime=runtime)
        first, second = (time_networks([(net, shape) for net in nets], how) for _ in range(2))
        times, again = [one.median for one in first], [one.median for one in second]
        apart = [100 * abs(b / a - 1) for a, b in zip(times, again, strict=True)]
        spreads = [50 * (one.high - one.low) / one.median for one in first]
        low, middle, high = quartiles(apart)
        head = ("limit of MACs", "stands for, ms", "networks within it", "slower", "slowest, times")
        parts += [
            f"## {how}",
            f"{len(nets)} networks, {min(times):.2f} to {max(times):.2f} ms. Rank correlation of MACs and latency "
            f"{spearmanr(macs, times).statistic:.3f}; of the first and the second timing "
            f"{spearmanr(times, again).statistic:.3f}. Two timings of a network lie {middle:.1f} % apart ({low:.1f} to "
            f"{high:.1f}, at most {max(apart):.1f}); the quartiles of the runs of one, {quartiles(spreads)[1]:.1f} % "
            "from their median.",
            table(head, missed(macs, times)),
        ]
    publish("latency", f"MACs and latency of {plural(len(nets), 'network')} of {asked.study}", parts, asked.out)


if __name__ == "__main__":
    main()
