"""What it costs to lose nothing: `python -m benchmarks.service.nothing_lost --out`.

The same trials of about ten seconds, as many at once as a study runs: in bare processes that only train, without
checkpoints, Ray and tracking; in a study as a user runs it; and in studies whose MLflow server gets into trouble once
the first trial has ended. One after the other in each round, the next round the other way round. What is compared is
the time from the end of one epoch to the end of the next, as the study's record tells it: with the checkpoint, the
report to the search and all that goes on beside. After each study with a server its journal is compared with what the
server has, point by point. The machine must be otherwise idle. It takes about half an hour.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks import report
from benchmarks.report import publish, ratios, spread, table, there_and_back
from benchmarks.service import overhead
from benchmarks.service.server_trouble import TROUBLES, WELL, Done, run
from benchmarks.trial.loops import BATCH, Ours
from benchmarks.trial.side_by_side import Place, pin
from resnet import NetSpec
from search.data import Prepared, prepare
from search.spec import DataSpec, TrainSpec, TrialSpec

BARE, LOCAL = "training only", "study, MLflow in a file"


def bare(described: dict[str, Any], places: Sequence[Place]) -> Done:
    """Trains the study's trials, each process its share of them."""
    prepared = prepare(DataSpec.model_validate(described["data"]))
    each = -(-described["search"]["trials"] // len(places))
    context = get_context("spawn")
    pipes: list[Connection] = []
    processes = []
    for place in places:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_train, args=(theirs, described, prepared, place, each))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    periods = [period for pipe in pipes for period in pipe.recv()]
    for process in processes:
        process.join()
    return Done(periods)


def _train(pipe: Connection, described: dict[str, Any], prepared: Prepared, place: Place, trials: int) -> None:
    if place.cores is not None:
        pin(place.cores)
    torch.set_num_threads(place.threads)
    shape = {
        "in_channels": prepared.info.channels,
        "num_classes": len(prepared.info.classes),
        "image_size": prepared.info.height,
    }
    spec = TrialSpec(
        net=NetSpec.model_validate(described["net"] | shape), train=TrainSpec.model_validate(described["train"])
    )
    found: list[list[float]] = []
    for _ in range(trials):
        ends = [time.monotonic() for _ in Ours(spec, prepared)()]
        found.append([after - before for before, after in itertools.pairwise(ends)])
    pipe.send(found)


def rows(done: dict[str, list[Done]]) -> list[list[str]]:
    """Every form, beside training only and beside the study whose server is well."""
    found: list[list[str]] = []
    for name, rounds in done.items():
        every = [seconds for one in rounds for own in one.periods for seconds in own]
        medians = [one.median for one in rounds]
        slowest = max(max(one.trials) for one in rounds)
        beside = [f"{spread(ratios(medians, [one.median for one in done[other]]), 3)}" for other in (BARE, WELL)]
        found.append(
            [
                name,
                f"{len(every)}",
                spread(every, 3),
                *beside,
                spread([1000 * seconds for one in rounds for seconds in one.beyond], 0) if name != BARE else "",
                f"{slowest / max(max(one.trials) for one in done[WELL]):.3f}",
                spread([one.command for one in rounds], 1) if name != BARE else "",
            ]
        )
    return found


def counts(done: dict[str, list[Done]]) -> list[list[str]]:
    """What the servers had, all rounds together."""
    found: list[list[str]] = []
    for name, rounds in done.items():
        sent = [one.sent for one in rounds if one.sent]
        if sent:
            sums = [sum(getattr(s, field) for s in sent) for field in ("runs", "points", "missing", "foreign")]
            found.append([name, *(f"{total:,}" for total in sums)])
    return found


def arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, "nothing-lost", "name of the data set")
    parser.add_argument("--trials", type=int, default=16, help="of each study (16)")
    parser.add_argument("--seconds", type=float, default=10, help="of a trial, about (10)")
    parser.add_argument("--rounds", type=int, default=2, help="of all forms (2)")
    parser.add_argument("--troubles", nargs="*", choices=TROUBLES, default=list(TROUBLES), help="of the server (all)")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    images, epochs = overhead.calibrated(args)
    described = overhead.study(args, images, epochs)
    troubles = dict.fromkeys([WELL, *args.troubles])
    forms: dict[str, Callable[[], Done]] = {
        BARE: lambda: bare(described, overhead.places()),
        LOCAL: lambda: run(described, None),
        **{name: lambda trouble=TROUBLES[name]: run(described, trouble) for name in troubles},
    }
    done: dict[str, list[Done]] = {name: [] for name in forms}
    for turn in range(args.rounds):
        for name in there_and_back(forms, turn):
            done[name].append(forms[name]())
            print(f"round {turn + 1}, {name}: {done[name][-1].median:.3f} s an epoch", file=sys.stderr, flush=True)
    head = ["", "n", "seconds an epoch", f"ratio to {BARE}", f"ratio to {WELL}", "beyond training, ms an epoch"]
    head += ["slowest trial, ratio", "command, s"]
    checkpoints, artifacts, records = done[LOCAL][-1].disk
    note = (
        f"{args.rounds} rounds of studies of {args.trials} trials: ResNet-{overhead.DEPTH}, {epochs} epochs of "
        f"{images:,} images of {args.data}, batches of {BATCH}. Times with quartiles over all epochs but each trial's "
        "first; ratios of the rounds' medians, with quartiles over rounds; beyond training: from epoch to epoch, what "
        "was neither training nor validation; the slowest trial beside the slowest of the studies whose server was "
        "well. Server, proxy and study share the machine. On disk a trial leaves "
        f"{checkpoints:,} bytes of checkpoints, {artifacts:,} of artifacts and {records:,} of records."
    )
    what = ["", "runs", "points on record", "missing on the server", "doubled or foreign"]
    parts = [note, table(head, rows(done)), table(what, counts(done))]
    publish("nothing-lost", "What it costs to lose nothing", parts, args.out)


if __name__ == "__main__":
    main()
