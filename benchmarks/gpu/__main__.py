"""All that is measured on a GPU, beside its goals: `python -m benchmarks.gpu --out`.

Parts, each in a process of its own, and alone with `--parts NAME ...`: `check` (are the promises true, such as captured
equals eager), `steps` (what the card can do, and one trial at a time), `kernels` (of a step, by the profiler),
`packing` and `mps` (processes side by side, without and with NVIDIA's multi-process service, which is started and
ended), `branches` (seeds in one process against as many processes, under MPS where it is installed), `compiled`
(torch.compile), `loops` (against the loop that users copy), `recipe` (ResNet-20 as the papers train it) and `service`
(a short study). `loops`, `recipe` and `service` read CIFAR-10.

A part that fails is told in the table. `--out` adds what was measured to DATE-gpu.json, and writes all of that day to
DATE-gpu.md. Half an hour on an H200 that is otherwise idle; a part is ended after nine minutes and
keeps what it has by then.
"""

import argparse
import datetime
import json
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import NETWORKS, PARTS, on_a_gpu
from benchmarks.gpu.processes import apart
from benchmarks.gpu.promises import CASES
from benchmarks.report import RESULTS, spread, table

HEAD = ["part", "", "goal", "median (quartiles)", "n", "met", ""]

Record = dict[str, Any]  # of a part: `began` (ISO 8601), `seconds`, `figures` (each as a Figure), `error` or None


def record(part: str, asked: argparse.Namespace) -> Record:
    """Runs a part."""
    began, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    figures, error = apart(PARTS[part], asked)
    found = [asdict(figure) | {"met": figure.met} for figure in figures]
    seconds = round(time.monotonic() - clock, 1)
    return {"began": began.isoformat(timespec="seconds"), "seconds": seconds, "figures": found, "error": error}


def rows(part: str, done: Record) -> list[list[str]]:
    """A part's lines of the table."""
    found: list[list[str]] = []
    for each in done["figures"]:
        values = each["values"]
        digits = 0 if max(values) >= 100 or all(float(value).is_integer() for value in values) else 2
        measured = f"{values[0]:,.{digits}f}" if len(values) == 1 else spread(values, digits)
        goal = "" if each["goal"] is None else f"{'≤' if each['at_most'] else '≥'} {each['goal']:,g}"
        met = {None: "", True: "yes", False: "**no**"}[each["met"]]
        value = f"{measured} {each['unit']}".strip()
        found.append([part, each["what"], goal, value, str(len(values)), met, each["note"]])
    if done["error"]:
        found.append([part, "not measured", "", "", "", "**no**", done["error"]])
    return [[cell.replace("|", "/") for cell in row] for row in found]


def page(where: str, records: Mapping[str, Record]) -> str:
    """The table of all parts, in their order."""
    shown = {part: records[part] for part in PARTS if part in records}
    lines = [row for part, done in shown.items() for row in rows(part, done)]
    times = ", ".join(f"{part} {done['seconds']:.0f} s from {done['began'][11:16]} UTC" for part, done in shown.items())
    title = f"# Training on a GPU, {datetime.date.today()}"
    about = "Batches of 128 images of 32 x 32 pixels, bfloat16. n repetitions: epochs, turns, or once."
    return "\n\n".join([title, where, about, table(HEAD, lines), f"Measured: {times}."]) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS], metavar="PART", help="only these")
    parser.add_argument("--networks", nargs="+", type=int, choices=[*NETWORKS], default=[*NETWORKS], help="depths")
    parser.add_argument(
        "--cases", nargs="+", choices=[*CASES], default=[*CASES], metavar="CASE", help="of the part check, only these"
    )
    parser.add_argument("--n", type=int, default=5, help="repetitions that count (5)")
    parser.add_argument(
        "--steps", type=int, default=351, help="of an epoch, but for processes side by side (351, CIFAR-10's)"
    )
    parser.add_argument("--epochs", type=int, default=164, help="of the part recipe (164)")
    parser.add_argument("--data-dir", help="where the raw data are")
    words = "write DATE-gpu.md and DATE-gpu.json to FOLDER (benchmarks/results)"
    parser.add_argument("--out", nargs="?", type=Path, const=RESULTS, metavar="FOLDER", help=words)
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    # Whatever ends the command, the part that runs is ended with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    machines, error = apart(on_a_gpu)
    if error:
        sys.exit(f"error: {error}")
    (where,) = machines
    records: dict[str, Record] = {}
    name = f"{datetime.date.today()}-gpu"
    if asked.out and (asked.out / f"{name}.json").exists():
        earlier = json.loads((asked.out / f"{name}.json").read_text())
        if earlier["machine"] != where:
            sys.exit(
                f"error: {asked.out / name}.json is of another machine, {earlier['machine'][:-1]}; name another --out"
            )
        records = earlier["parts"]
    for part in asked.parts:
        print(f"{part} ...", file=sys.stderr, flush=True)
        records[part] = record(part, asked)
        if asked.out:  # after each, for the command may be cut off
            asked.out.mkdir(parents=True, exist_ok=True)
            (asked.out / f"{name}.json").write_text(json.dumps({"machine": where, "parts": records}, indent=1))
            (asked.out / f"{name}.md").write_text(page(where, records))
    print(page(where, records))
    sys.exit(any(records[part]["error"] for part in asked.parts))


if __name__ == "__main__":
    main()
