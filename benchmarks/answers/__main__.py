"""Do the answers hold what they claim? `python -m benchmarks.answers --out`.

Trainings are simulated whose true means are known, and handed to the functions that the report uses: how often the
intervals hold the truth, how often a difference is claimed where there is none, how good the advised number of seeds
is, and what the test images add. Nothing is trained and nothing timed: the machine may be busy. It takes minutes on one
core.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.answers import known_truth, races
from benchmarks.answers.known_truth import DEVIATION, SIZES
from benchmarks.report import publish, table


@dataclass(frozen=True)
class Part:
    """A table of the page."""

    title: str
    text: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    named: int = 1  # cells that name a row

    def missed(self) -> list[str]:
        """The rows with a figure beyond its bound, and where."""
        bold = [[f"{h}: {cell}" for h, cell in zip(self.head, row, strict=True) if "**" in cell] for row in self.rows]
        names = [f"- {self.title}, {', '.join(row[: self.named])}" for row in self.rows]
        return [f"{name} ({'; '.join(cells)})" for name, cells in zip(names, bold, strict=True) if cells]


def intervals(rng: np.random.Generator, n: int) -> list[Part]:
    by_size = ["trainings", *map(str, SIZES)]
    return [
        Part(
            "The mean",
            "Percent of 95 % intervals that hold the true mean, by number of trainings. Student's suppose a normal "
            "law: of a skewed one they are too short. `Without it`: not what is done; the step of errors on 360 images "
            "is not made known, and equal errors have no interval, so hold nothing.",
            by_size,
            known_truth.means(rng, n),
        ),
        Part(
            "The median",
            "Percent of intervals that hold the true median, beside the level that they claim. The last row is what is "
            f"not done: a percentile bootstrap at 95 % of 1,000 resamples, {n // 5:,} times.",
            by_size,
            known_truth.medians(rng, n),
        ),
        Part(
            "No difference",
            "Percent of pairs of equal mean with p of 5 % or less (so too the 95 % intervals that leave out 0).",
            by_size,
            known_truth.false_differences(rng, n),
        ),
    ]


def differences(rng: np.random.Generator, n: int) -> list[Part]:
    return [
        Part(
            "A difference",
            f"Percent found at 5 %, deviation {DEVIATION} points. 0.24 points are 6.61 % against 6.37 %: the normal "
            "approximation asks for 7 trainings of either for 80 %, Student's test and Welch's for 9.",
            ["points", "trainings", "Student's formula", "our formula", "simulated"],
            known_truth.powers(rng, n),
        ),
        Part(
            "The probability that the better one is better",
            "True means are drawn with the deviation of the first column, in deviations of a training; the two that "
            "seem best are compared. Cells: mean of what is said, and how often it is so. Said is what would be so if "
            "any difference were as likely as any other: among configurations that are alike it is so less often, "
            f"least of the best of several. {10 * n:,} times.",
            ["deviation of means", "finalists", "trainings", "80 to 90 %", "90 to 95 %", "95 to 99 %", "above 99 %"],
            known_truth.probabilities(rng, 10 * n),
            named=3,
        ),
        Part(
            "Seeds advised",
            f"What `seeds_needed` says for 80 % at 5 %, deviation {DEVIATION} points: quantiles, and percent (of 2,000 "
            "at most) that truly has a power of 80 %. Difference and deviations are put in as seen, so of 3 trainings "
            f"it is an order of magnitude, no more; it names a number where none is enough. {n // 2:,} times.",
            ["true points", "needed", "from", "cases", "5 %", "25 %", "median", "75 %", "95 %", "enough"],
            known_truth.advice(rng, n // 2),
        ),
    ]


def finals(rng: np.random.Generator, n: int) -> list[Part]:
    return [
        Part(
            "Races of equal finalists",
            "Percent of races at 95 % that claim any finalist better than any other. The last row is what is not done. "
            "Deviations 1 to r rise in equal ratios from the first finalist to the last: of very unequal ones Welch's "
            f"test itself claims too much. Of 11 finalists, and of 5 with other numbers of seeds, {n // 5:,} races.",
            ["finalists", *map(str, races.FINALISTS)],
            races.false_claims(rng, n),
        ),
        Part(
            "Races with a best finalist",
            "The best is ahead of all others, which are equal, by so many deviations of a training. Percent of races: "
            "the true best has the lowest mean; it is separated; any claim is false; and, in the end, one that is out "
            f"has a lower mean than the best, of fewer trainings. {n // 2:,} times.",
            ["finalists, seeds", "ahead", "best is best", "separated", "false claim", "mean trainings", "passed"],
            races.true_claims(rng, n // 2),
            named=2,
        ),
        Part(
            "The test images",
            "Images drawn anew each time, and trainings that err on the same of them mostly or seldom. Percent of 95 % "
            "intervals that hold the error on all images of that kind: Student's over 3 seeds (which speaks of the "
            f"images at hand only), and 1.96 standard errors over images on either side. {n // 5:,} times.",
            ["images", "error, %", "same images", "over seeds", "over images"],
            races.images(rng, n // 5),
            named=3,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=10_000, help="of each simulation (10,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-answers.md")
    args = parser.parse_args()
    if args.repetitions < 1_000:
        parser.error(f"--repetitions {args.repetitions} are too few to see a miss; give 1,000 or more")
    rng, n = np.random.default_rng(args.seed), args.repetitions
    parts = [*intervals(rng, n), *differences(rng, n), *finals(rng, n)]
    missed = "\n".join(row for part in parts for row in part.missed())
    alone, fifth = (f"{100 * (0.05 * 0.95 / m) ** 0.5:.2f} (at most {50 / m**0.5:.2f})" for m in (n, n // 5))
    note = (
        f"Simulated trainings of known truth; n = {n:,} of each unless told otherwise. Standard errors of a share of 5 "
        f"or 95 %: {alone} points; of {n // 5:,}: {fifth}. Bold: beyond the claim by more than three of them."
    )
    sections = [piece for part in parts for piece in (f"## {part.title}", part.text, table(part.head, part.rows))]
    publish("answers", "Do the answers hold what they claim?", [note, *sections, "## What misses", missed], args.out)


if __name__ == "__main__":
    main()
