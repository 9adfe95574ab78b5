"""Our training loop against the loop that users copy: `python -m benchmarks.trial.speed --out`.

Both train the same network on the same images with the same batch, in turns in one run (A B C, C B A, ...), each in
processes of its own that stay. A turn of ours is an epoch over a small part of the data, by its own clock, without
validation; one of the reference as many steps of a long epoch, so that the start of its DataLoader's workers does not
count. The first turn of each does not count either.

On the CPU: one trial on all threads and, as the product does by default, as many trials of one thread as there are
cores, both against the reference with all threads and as many workers; and one thread each, the reference's worker on
the same core. Each turn of ours is set beside the machine's own sgemm rate, measured before and after it. On a GPU: one
trial against the reference with as many workers as cores; `benchmarks.gpu` has more of it. The machine must be
otherwise idle. It takes about five minutes on two cores.
"""

import argparse
import time
from collections.abc import Sequence

import torch

from benchmarks import report
from benchmarks.report import publish, ratios, spread, table
from benchmarks.trial import ceilings
from benchmarks.trial.loops import BATCH, STUDY_STEPS, Ours, ReferenceSteps, subset, trial
from benchmarks.trial.side_by_side import Place, Turn, all_cores, in_turns, team
from resnet import NetSpec
from resnet.costs import cost
from search.data import Prepared
from search.spec import TrialSpec

HEAD = ["network", "configuration", "images a turn", "ours, images/s", "reference, images/s", "ratio", "of sgemm"]


def steps_of_turn(steps: int, depth: int) -> int:
    """Steps that take a network of this depth as long as `steps` take ResNet-20; at least two."""
    macs = [cost(NetSpec(depth=d)).macs for d in (20, depth)]
    return max(2, round(steps * macs[0] / macs[1]))


def of_sgemm(turns: Sequence[Turn], net: NetSpec, image_size: int) -> list[float]:
    """The rate of the convolutions over that of a large product, turn by turn; none where sgemm was not measured."""
    flops = ceilings.training_flops(cost(net, image_size))
    return [flops * turn.images_per_s / turn.sgemm for turn in turns if turn.sgemm]


def row(name: str, ours: Sequence[Turn], theirs: Sequence[Turn], prepared: Prepared, net: NetSpec) -> list[str]:
    """One comparison for the table."""
    rates = [[turn.images_per_s for turn in turns] for turns in (ours, theirs)]
    share = of_sgemm(ours, net, prepared.info.height)
    return [
        f"ResNet-{net.depth}",
        name,
        f"{prepared.info.n_train:,}",
        *(spread(rate) for rate in rates),
        spread(ratios(*rates), 2),
        f"{spread([100 * s for s in share])} %" if share else "",
    ]


def cpu_rows(depth: int, args: argparse.Namespace) -> list[list[str]]:
    """The three comparisons of one depth on cores."""
    cores = all_cores()
    steps = steps_of_turn(args.steps, depth)
    whole, single = (subset(args.data, s, args.data_dir) for s in (steps, max(2, steps // 2)))
    spec, short = (trial(prepared.info, depth) for prepared in (whole, single))
    images = subset(args.data, None, args.data_dir)
    everywhere = Place(len(cores))
    alone = [Place(1, frozenset({core})) for core in cores]
    with (
        team([(Ours(spec, whole), everywhere)], sgemm=True) as one,
        team([(ReferenceSteps(spec, images, len(cores), steps), everywhere)]) as reference,
        team([(Ours(short, single), place) for place in alone], sgemm=True) as many,
    ):
        ours, theirs, packed = in_turns([one, reference, many], args.turns)
    with (
        team([(Ours(short, single), alone[0])], sgemm=True) as one,
        team([(ReferenceSteps(short, images, 1, max(2, steps // 2)), alone[0])]) as reference,
    ):
        on_one, theirs_on_one = in_turns([one, reference], args.turns)
    return [
        row(f"{len(cores)} trials x 1 thread, {len(cores)} cores", packed, theirs, single, spec.net),
        row(f"1 trial x {len(cores)} threads, {len(cores)} cores", ours, theirs, whole, spec.net),
        row("1 trial x 1 thread, 1 core", on_one, theirs_on_one, single, spec.net),
    ]


def gpu_turns(
    depth: int, data: str, data_dir: str | None, steps: int, turns: int
) -> tuple[Prepared, TrialSpec, list[list[Turn]]]:
    """Turns of one trial on the GPU and of the reference, each with the whole machine in its turn.

    Args:
        steps: of every turn; 0: the whole set, and 100 of the reference.
    """
    place = Place(len(all_cores()))
    prepared, images = (subset(data, count, data_dir) for count in (steps or None, None))
    spec = trial(prepared.info, depth)
    with (
        team([(Ours(spec, prepared), place)]) as one,
        team([(ReferenceSteps(spec, images, place.threads, steps or 100), place)]) as reference,
    ):
        return prepared, spec, in_turns([one, reference], turns)


def gpu_row(depth: int, args: argparse.Namespace) -> list[str]:
    """The one comparison of a depth on a GPU."""
    prepared, spec, (ours, theirs) = gpu_turns(depth, args.data, args.data_dir, args.steps, args.turns)
    return row(f"1 trial, {len(all_cores())} cores", ours, theirs, prepared, spec.net)


def arguments() -> argparse.Namespace:
    gpu = torch.cuda.is_available()
    parser = report.parser(__doc__, "trial-speed", "any set of colour images")
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 56], help="of both loops (20 56)")
    parser.add_argument("--turns", type=int, default=5, help="of each that count (5)")
    steps = (
        "of a turn of ResNet-20 on all cores, deeper ones take fewer (8); on a GPU of every turn, 0 the whole set (0)"
    )
    parser.add_argument("--steps", type=int, default=0 if gpu else 8, help=steps)
    args = parser.parse_args()
    if not gpu and args.steps < 4:
        parser.error(f"--steps {args.steps} is too few for a trial on one core, which takes half; give at least 4")
    return args


def main() -> None:
    args = arguments()
    began, gpu = time.perf_counter(), torch.cuda.is_available()
    rows = [r for d in args.depths for r in ([gpu_row(d, args)] if gpu else cpu_rows(d, args))]
    note = (
        f"{args.data}, batch {BATCH}, n = {args.turns} turns of each; medians with quartiles, of the ratio turn by "
        f"turn. A trial is of {STUDY_STEPS:,} steps, of which the turns are the first."
    )
    parts = [note, table(HEAD, rows)]
    parts.append(f"Measured in {time.perf_counter() - began:.0f} s.")
    publish("trial-speed", "Our loop and the reference loop", parts, args.out)


if __name__ == "__main__":
    main()
