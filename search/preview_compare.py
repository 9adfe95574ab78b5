"""What a study that compares given configurations would do, and cost: for `--dry-run`."""

from collections.abc import Callable, Sequence

import torch

from resnet import cost
from resnet.cost import Cost
from search import published
from search.compare import Configuration
from search.data_spec import DataInfo
from search.estimate import Timed, timed
from search.report_words import duration, magnitude, plural
from search.study_spec import StudySpec


def show(out: Callable[[str], None], spec: StudySpec, info: DataInfo) -> None:
    """Prints the rows with their costs and published figures, how many trainings there are, and how long they take."""
    rows = spec.rows(info.shape, len(info.classes))
    prices = [cost(row.trial.net, info.shape[:2]) for row in rows]
    out(f"rows: {len(rows)}, each against {rows[0].label!r} unless said otherwise")
    for row, price in zip(rows, prices, strict=True):
        out(f"  {row.label}: {', '.join(_told(row, rows[0], price))}")
    if spec.scale is not None:
        out(f"scale: {spec.scale.name or 'changed by hand'}")
        for path, (before, now) in spec.scale.changed.items():
            out(f"  {path}: {now} in place of {before}")
    seeds, more = spec.finals.seeds, spec.finals.max_seeds - spec.finals.seeds
    up_to = f", up to {len(rows) * spec.finals.max_seeds} where rows cannot be told from the best" if more else ""
    out(
        f"trainings: {len(rows) * seeds} ({len(rows)} rows, {seeds} seeds){up_to}, "
        f"each of {plural(spec.epochs, 'epoch')} over "
        f"{info.n_train + info.n_validation:,} images (train and validation) and tested once on {info.n_test:,}"
    )
    out(estimate(spec, info, rows, prices))


def _told(row: Configuration, first: Configuration, price: Cost) -> list[str]:
    base, own = first.params, row.params
    paths = [path for path in {**base, **own} if own.get(path) != base.get(path) and path in own]
    parts = [f"{path} {own[path]}" for path in paths]
    parts += [f"{magnitude(price.params)} parameters", f"{magnitude(price.macs)} MACs an image"]
    figures = [published.figure(key) for key in row.published]
    parts += [f"published {one} ({one.statistic}, {one.source.partition(' ')[0]})" for one in figures]
    if row.against not in (None, first.label):
        parts.append(f"against {row.against!r}")
    return parts


def estimate(spec: StudySpec, info: DataInfo, rows: Sequence[Configuration], prices: Sequence[Cost]) -> str:
    """Times the rows of the fewest and of the most MACs on this machine for a second or two; the others by their MACs.

    Testing an image is taken for a third of the work of training on it.
    """
    gpu = torch.cuda.is_available() and spec.resources.gpus_per_trial != 0
    where, cores = torch.device("cuda" if gpu else "cpu"), spec.resources.cpus_per_trial
    order = sorted(range(len(rows)), key=lambda place: prices[place].macs)
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, int(cores)))
    try:
        small, large = (
            timed(t.net, info.shape, t.train.batch_size, where) for t in (rows[order[0]].trial, rows[order[-1]].trial)
        )
    finally:
        torch.set_num_threads(before)
    images = spec.epochs * (info.n_train + info.n_validation) + info.n_test / 3
    total = spec.finals.seeds * images * sum(seconds_an_image([price.macs for price in prices], small, large))
    device = torch.cuda.get_device_name() if gpu else "this machine"
    unit = "GPU" if gpu else "core" if cores <= 1 else f"{cores:g} cores"
    return (
        f"estimate: {duration(total)} on one {unit}, and as many times less as run at once (measured now on {device}: "
        f"the smallest network trains at {small.images_per_s:,.0f} images/s, the largest at {large.images_per_s:,.0f}; "
        "another device has another speed)"
    )


def seconds_an_image(macs: Sequence[int], small: Timed, large: Timed) -> list[float]:
    """Of training, for each network by its MACs: on the line through the smallest and the largest, which were timed."""
    low, high = min(macs), max(macs)
    fast, slow = 1 / small.images_per_s, 1 / large.images_per_s
    return [fast + (slow - fast) * (one - low) / (high - low) if high > low else fast for one in macs]
