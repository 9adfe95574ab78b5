"""Images/s of several trials at once on the cores: `python -m benchmarks.trial.packing --out`.

One trial on all threads against as many trials of one thread as there are cores, each on a core of its own. All trials
of a team begin an epoch together, and only the time in which all of them train counts. The teams take turns (A B, B A,
...); the first does not count. The machine must be otherwise idle. It takes about two minutes on two cores. Trials side
by side on a GPU are a part of `benchmarks.gpu`.
"""

import argparse
import time
from contextlib import ExitStack

from benchmarks import report
from benchmarks.report import publish, ratios, spread, table
from benchmarks.trial.loops import BATCH, Loop, Ours, subset, trial
from benchmarks.trial.side_by_side import Place, all_cores, in_turns, team


def places(trials: int, cores: list[int]) -> list[Place]:
    """Where so many trials run: each on cores of its own, where there are as many; else anywhere, on a thread each."""
    each = len(cores) // trials
    if not each:
        return [Place(1)] * trials
    return [Place(each, frozenset(cores[k * each : (k + 1) * each])) for k in range(trials)]


def arguments() -> argparse.Namespace:
    counts = sorted({1, len(all_cores())})
    parser = report.parser(__doc__, "packing", "name of the data set")
    parser.add_argument("--trials", type=int, nargs="+", default=counts, help=f"at once, 1 first ({counts})")
    parser.add_argument("--depth", type=int, default=20, help="of the network (20)")
    parser.add_argument("--turns", type=int, default=7, help="of each number of trials that count (7)")
    parser.add_argument("--steps", type=int, default=6, help="of an epoch; 0: the whole set")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    began, cores = time.perf_counter(), all_cores()
    prepared = subset(args.data, args.steps or None, args.data_dir)
    spec = trial(prepared.info, args.depth)
    with ExitStack() as stack:
        loop: Loop = Ours(spec, prepared)
        teams = [
            stack.enter_context(team([(loop, place) for place in places(trials, cores)])) for trials in args.trials
        ]
        measured = [[turn.images_per_s for turn in turns] for turns in in_turns(teams, args.turns)]
    rows = [
        [str(trials), str(places(trials, cores)[0].threads), spread(rates), spread(ratios(rates, measured[0]), 2)]
        for trials, rates in zip(args.trials, measured, strict=True)
    ]
    note = (
        f"ResNet-{args.depth}, {args.data}, epochs of {prepared.info.n_train // BATCH} steps of {BATCH} images, "
        f"n = {args.turns} turns of each; medians with quartiles, of the ratio turn by turn. "
        f"Measured in {time.perf_counter() - began:.0f} s."
    )
    head = ["trials at once", "threads of each", "images/s in all", f"over {args.trials[0]}"]
    publish("packing", "Trials side by side", [note, table(head, rows)], args.out)


if __name__ == "__main__":
    main()
