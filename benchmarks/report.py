"""What the benchmarks have in common to write down: spreads, tables, and the page below results/."""

import argparse
import datetime
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from search.machine import hardware, versions

Item = TypeVar("Item")
RESULTS = Path(__file__).parent / "results"


def parser(description: str | None, name: str, data: str) -> argparse.ArgumentParser:
    """A benchmark's command line with what all have: `--data` (in words what may be given), `--data-dir`, `--out`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", default="cifar10", help=f"{data} (cifar10)")
    made.add_argument("--data-dir", help="where the raw data are")
    made.add_argument("--out", action="store_true", help=f"write benchmarks/results/DATE-{name}.md")
    return made


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; of one value that value three times."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def spread(values: Sequence[float], digits: int = 0) -> str:
    """`median (lower to upper quartile)` with so many digits after the point."""
    low, middle, high = quartiles(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, turn by turn."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def there_and_back(items: Iterable[Item], turn: int) -> list[Item]:
    """What is measured in a turn, in order; every other turn the other way round, so that none is always the first."""
    listed = list(items)
    return listed if turn % 2 == 0 else listed[::-1]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def machine() -> str:
    """The hardware and what ran on it, in one line."""
    return f"{hardware()}; {', '.join(f'{name} {version}' for name, version in versions().items())}."


def publish(name: str, title: str, parts: Sequence[str], out: bool) -> None:
    """Prints the page of a benchmark; with `out` writes it to results/DATE-`name`.md too."""
    text = "\n\n".join([f"# {title}, {datetime.date.today()}", machine(), *parts])
    print(text)
    if out:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{datetime.date.today()}-{name}.md").write_text(text + "\n")
