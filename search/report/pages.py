"""report.html, one file that opens offline, report.md and the short answer: the same sections, printed by templates."""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from plotly.offline import get_plotlyjs

from search import formatting
from search.rendering import render
from search.report import figures, figures_finals, tables, wording
from search.report.analysis import Analysis
from search.report.effects import LEVEL
from search.report.finals import Mistake
from search.report.tables import Table
from search.spec import Objective

ROOM = Path(__file__).parent
TOP = 5  # rows of the short answer's table of trials


@dataclass(frozen=True)
class Picture:
    """A test image that is taken for another class."""

    source: str  # the image itself, as a data URI
    of: Mistake

    @classmethod
    def made(cls, pixels: NDArray[np.uint8], of: Mistake) -> Self:
        """From pixels (h, w, 1 or 3)."""
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
        return cls(f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}", of)

    @property
    def probability(self) -> str:
        """In words."""
        return formatting.probability(self.of.probability)


@dataclass(frozen=True)
class Section:
    """One question and what answers it. A page shows its figures, or its table where there are none."""

    name: str  # its id in the page
    link: str
    title: str
    note: str = ""
    lines: tuple[str, ...] = ()
    table: Table | None = None
    figures: Mapping[str, go.Figure | None] | None = None  # id -> figure, those with something to show
    folded: bool = False
    pictures: tuple["Picture", ...] = ()  # in place of the table
    beside: str = ""  # how figures stand side by side: `beside`, `effects`

    @property
    def shown(self) -> dict[str, go.Figure]:
        """The figures that there are."""
        return {name: found for name, found in (self.figures or {}).items() if found is not None}


def sections(of: Analysis) -> list[Section]:
    """In the order of the questions: what was tested, what was tried, what mattered, at what cost, on what."""
    found = [*_finals(of), *([] if of.compares and not of.trials else _searched(of))]
    if of.summary.space:
        space = tables.pairs(("parameter", "searched over"), of.summary.space)
        found.append(Section("space", "Space", "The space", table=space, folded=True))
    found.append(Section("study", "Study", "The study", table=tables.study(of), folded=True))
    return [one for one in found if one.lines or one.table or one.shown]


def _finals(of: Analysis) -> list[Section]:
    finals = of.summary.finals
    if finals is None:
        return []
    title = "Compared" if finals.compared else "Finalists"
    note = "Mean ± standard deviation over seeds. P(better): that its mean is below the first one's."
    plots = {"finals-errors": figures_finals.errors(of), "finals-curves": figures_finals.curves(of)}
    told = "Every seed, the mean and its interval; training errors from the lowest seed to the highest."
    return [
        Section("finals", title, title, note, tuple(tables.lost(of)), tables.finalists(of)),
        Section("tested", "Test errors", "Test errors and training", told, figures=plots, beside="beside"),
        *_classes(of),
    ]


def _classes(of: Analysis) -> list[Section]:
    """What the exported network says of the test images."""
    found, run = of.predictions, of.exported
    if found is None or run is None:
        return []
    n, wrong, (mean, between) = len(found.labels), sum(one.wrong for one in of.classes), of.balanced
    note = (
        f"Of the exported network (seed {run.seed}): {wrong:,} of {n:,} test images are wrong, "
        f"{formatting.percent(100 * wrong / n, n)}. The mean of the classes' errors is {mean:.2f} %, for other images "
        f"{between.low:.2f} to {between.high:.2f} % ({100 * between.level:g} % interval)."
    )
    part = "Numbers of test images, and their part of the class."
    pictures = tuple(map(Picture.made, found.images, of.mistakes))
    surest = f"Of {wrong:,} wrong answers those of the highest probability."
    none = () if wrong else ("No test image is wrong.",)
    matrix, pairs = figures_finals.confusion(of), tables.confused(of)
    confused = f"What is taken for what{'' if matrix else ' most often'}"
    drawn, surest_table = {"confusion": matrix}, tables.mistakes(of)
    told = surest if wrong else ""
    return [
        Section("classes", "Classes", "The classes", note, table=tables.classes(of)),
        Section("confused", "Confusion", confused, part, (), pairs, drawn, folded=True),
        Section(
            "mistakes", "Mistakes", "The surest mistakes", told, none, surest_table, pictures=pictures, folded=True
        ),
    ]


def _searched(of: Analysis) -> list[Section]:
    first, sought, never = of.summary.first_rung, of.summary.objectives, tables.refused(of)
    marked = "Not beaten in both" if len(sought) < 3 else f"The Pareto front of {wording.together(sought)}"
    usual = Objective.LATENCY_MS if of.summary.latency else Objective.MACS
    costs = {f"cost-{other}": figures.cost(of, other) for other in sought[1:] or (usual,)}
    spread = {f"effect-{path}": made for path, made in figures.spreads(of).items()}
    curves, parallel = {"curves": figures.curves(of)}, {"parallel": figures.parallel(of)}
    ratios, shares = {"effects": figures.ratios(of.effects)}, {"importance": figures.importances(of.importance)}
    shade = "Stronger for a lower error; the network of the answer in orange, trials without a result in red."
    alike = f"Times the error at epoch {first}, all else alike: by a linear model, with {100 * LEVEL:g} % intervals."
    parts = f"What parts the best third of the trials from all, at epoch {first} (PED-ANOVA)."
    median = f"At epoch {first}; the bar is the median. The other parameters differ too."
    title, unfinished = "Every trial by its choices", "What did not run to the end, and why"
    return [
        Section("trials", "Trials", f"Trials by {of.validated}", table=tables.trials(of), folded=bool(of.settled)),
        Section("learning", "Learning curves", "Learning curves of the search", figures=curves),
        Section("together", "All at once", "All trials at once", shade, figures=parallel),
        Section("choices", "Choices", "What one choice changes", alike, table=tables.effects(of), figures=ratios),
        Section("cost", "Cost", "Cost against error", f"{marked}: in violet.", figures=costs),
        Section("mattered", "Importance", "What mattered", parts, table=tables.importance(of), figures=shares),
        Section("spread", "Every trial", title, median, figures=spread, folded=True, beside="effects"),
        Section("ended", "Not finished", unfinished, "", (never,) if never else (), tables.ended(of), folded=True),
    ]


def _tiles(of: Analysis) -> list[tuple[str, str]]:
    """The figures of the chosen network first, then those of the study."""
    counts, best = of.trials.counts(), of.standings[0] if of.settled else None
    chosen = best.finalist if best is not None else of.best
    tiles: list[tuple[str, str]] = []
    if best is not None:
        tiles = [(of.tested, best.error), ("seeds", str(len(best.errors)))]
    elif of.best is not None:
        tiles = [(of.validated, formatting.percent(of.best.measured, of.images))]
    if chosen is not None:
        magnitude = formatting.magnitude
        tiles += [("parameters", magnitude(chosen.params_count)), ("MACs", magnitude(chosen.macs))]
        if chosen.latency_ms is not None:
            tiles.append(("latency", formatting.milliseconds(chosen.latency_ms)))
    if not of.compares:
        tiles.append(("complete trials", f"{counts['complete']} of {sum(counts.values())}"))
    tiles.append(("wall time", formatting.duration(of.summary.elapsed_seconds)))
    return [*tiles, *([(of.cost.unit, wording.hours(of.cost.total))] if of.cost else [])]


def page(of: Analysis, parts: list[Section]) -> str:
    """The whole page; every string of the study is escaped."""
    drawn = {name: found.to_plotly_json() for part in parts for name, found in part.shown.items()}
    return render(
        ROOM / "templates" / "report.html",
        summary=of.summary,
        answer=of.answer,
        tiles=_tiles(of),
        sections=parts,
        style=_asset("report.css"),
        script=_asset("report.js"),
        plotly=Markup(get_plotlyjs()),
        # no string may end the script element
        figures=Markup(json.dumps(drawn, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")),
    )


def _asset(name: str) -> Markup:
    return Markup((ROOM / "assets" / name).read_text(encoding="utf-8"))


def markdown(of: Analysis, parts: list[Section]) -> str:
    """The whole of report.md: the page without its figures."""
    front = tables.trials(of, of.front) if of.front else None
    unbeaten = f"Not beaten in {wording.together(of.summary.objectives)}"
    found = [Section("front", "", unbeaten, table=front), *parts] if front else parts
    return render(ROOM / "templates" / "report.md", summary=of.summary, answer=of.answer, sections=found)


def short_answer(of: Analysis) -> str:
    """Markdown: the sentence, the settings, the finalists and the best trials; for a terminal and an MLflow note.

    The trials are the five of the lowest error, or where there are several objectives all that no other beats.
    """
    best = tables.trials(of, of.front or of.trials.ranked()[:TOP])
    found = [table for table in (tables.finalists(of), best) if table]
    return render(ROOM / "templates" / "answer.md", answer=of.answer, tables=found)
