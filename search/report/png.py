"""The report's figures as PNG files: the page's own figures, drawn by matplotlib in the page's light colours."""

import re
from collections.abc import Mapping, Sequence
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import NullLocator, PercentFormatter

from search.report.figures import Figure
from search.storage import PICTURES, REPORT, replace

INCH = 110  # of the page's pixels
DPI = 150
STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
SYMBOLS = {"circle": "o", "circle-open": "o", "diamond": "D", "x-thin-open": "x", "square": "s"}
SHEET = Path(__file__).parent / "assets" / "report.css"


def write(folder: Path, pictures: Mapping[str, Sequence[Figure]], title: str) -> tuple[Path, ...]:
    """Writes `NAME.png` of each name's figures, below each other, into `folder`/report; removes the others of before.

    Equal figures give equal bytes.

    Raises:
        OSError: the folder cannot be written.
    """
    made = {f"{name}.png": draw(figures, title) for name, figures in pictures.items() if figures}
    place = folder / REPORT
    place.mkdir(exist_ok=True)
    for old in {f"{name}.png" for name in PICTURES} - made.keys():
        (place / old).unlink(missing_ok=True)
    for name, data in made.items():
        replace(place / name, data)
    return tuple(place / name for name in made)


def draw(figures: Sequence[Figure], title: str) -> bytes:
    """One PNG of some figures, below each other."""
    heights = [figure["layout"]["height"] for figure in figures]
    with rc_context(STYLE):
        picture = Picture(figsize=(880 / INCH, (sum(heights) + 30) / INCH), dpi=DPI, layout="constrained")
        picture.suptitle(_plain(title), x=0.01, ha="left", fontsize=10, fontweight="bold")
        panels = picture.subplots(len(figures), 1, height_ratios=heights, squeeze=False)[:, 0]
        for axes, figure in zip(panels, figures, strict=True):
            _draw(axes, _coloured(figure, _colours()))
        buffer = BytesIO()
        FigureCanvasAgg(picture).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _colours() -> dict[str, str]:
    """Those of the light page, by name."""
    light = SHEET.read_text(encoding="utf-8").partition("@media")[0]
    return dict(re.findall(r"--(\w+): (#[0-9a-f]+);", light))


def _coloured(value: Any, colours: Mapping[str, str]) -> Any:
    match value:
        case str() if value.startswith("@"):
            return colours[value[1:]]
        case dict():
            return {key: _coloured(inner, colours) for key, inner in value.items()}
        case list():
            return [_coloured(inner, colours) for inner in value]
        case _:
            return value


def _draw(axes: Axes, figure: Figure) -> None:
    layout = figure["layout"]
    shown: dict[str, tuple[int, Any]] = {}  # legend entries: a name once
    for trace in figure["data"]:
        handle = _bars(axes, trace) if trace["type"] == "bar" else _scatter(axes, trace)
        if trace.get("showlegend", True) and handle is not None:
            shown.setdefault(_plain(trace["name"]), (trace.get("legendrank", 1000), handle))
    for shape in layout.get("shapes", []):
        axes.axvline(shape["x0"], color=shape["line"]["color"], linewidth=1, zorder=0)
    for note in layout.get("annotations", []):
        where = axes.get_yaxis_transform()
        axes.text(1.01, note["y"], _plain(note["text"]), transform=where, ha="left", va="center", fontsize=7.5)
    _axis(axes, "x", layout["xaxis"])
    _axis(axes, "y", layout["yaxis"])
    axes.grid(axis="both" if layout["yaxis"].get("showgrid", True) else "x", color="#e8ebf0", linewidth=0.7)
    axes.set_axisbelow(True)
    if "title" in layout:
        axes.set_title(_plain(layout["title"]["text"]), fontsize=9, loc="left")
    if layout.get("showlegend", True) and len(shown) > 1:
        names = sorted(shown, key=lambda name: shown[name][0])
        axes.legend(
            [shown[name][1] for name in names],
            names,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=5,
            frameon=False,
            fontsize=8,
        )


def _bars(axes: Axes, trace: Mapping[str, Any]) -> Any:
    drawn = axes.barh([_plain(name) for name in trace["y"]], trace["x"], color=trace["marker"]["color"])
    axes.bar_label(drawn, labels=trace["text"], padding=3)
    return None


def _scatter(axes: Axes, trace: Mapping[str, Any]) -> Any:
    """Lines, markers or both; None where there is nothing to see."""
    x, y = (np_nan(trace[axis]) for axis in ("x", "y"))
    if not x:
        return None
    if "fill" in trace:
        return axes.fill(x, y, color=trace["fillcolor"], linewidth=0)[0]
    marker, line = trace.get("marker", {}), trace.get("line", {})
    look: dict[str, Any] = {"color": marker.get("color") or line.get("color"), "linestyle": "none"}
    if "markers" in trace["mode"]:
        symbol = marker.get("symbol", "circle")
        look |= {"marker": SYMBOLS[symbol], "markersize": 0.62 * marker.get("size", 6)}
        look |= {"markerfacecolor": "none"} if "open" in symbol else {}
    if "lines" in trace["mode"]:
        look |= {"linestyle": "-", "linewidth": 0.75 * line.get("width", 2)}
        look |= {"drawstyle": "steps-post"} if line.get("shape") == "hv" else {}
        look |= {"drawstyle": "steps-pre"} if line.get("shape") == "vh" else {}
    bar = trace.get("error_x")
    if bar:
        ends = [bar["arrayminus"], bar["array"]]
        axes.errorbar(x, y, xerr=ends, fmt="none", ecolor=bar["color"], elinewidth=0.75 * bar["thickness"])
    return axes.plot(x, y, **look)[0]


def np_nan(values: Sequence[float | None]) -> list[float]:
    """A gap in a line is None in the page and NaN here."""
    return [float("nan") if value is None else value for value in values]


def _axis(axes: Axes, which: str, layout: Mapping[str, Any]) -> None:
    ranged, label = getattr(axes, f"set_{which}lim"), getattr(axes, f"set_{which}label")
    if layout.get("type") == "log":
        getattr(axes, f"set_{which}scale")("log")
    if "tickvals" in layout:
        low, high = getattr(axes, f"get_{which}lim")()
        texts = layout.get("ticktext", [f"{tick:g}" for tick in layout["tickvals"]])
        getattr(axes, f"set_{which}ticks")(layout["tickvals"], [_plain(text) for text in texts])
        getattr(axes, f"get_{which}axis")().set_minor_locator(NullLocator())
        for shown, text in zip(getattr(axes, f"get_{which}ticklabels")(), texts, strict=True):
            shown.set_fontweight("bold" if text.startswith("<b>") else "normal")
        ranged(low, high)
    if "range" in layout:
        ranged(*layout["range"])
    elif layout.get("rangemode") == "tozero":
        ranged(0, None)
    if "title" in layout:
        label(_plain(layout["title"]["text"]))
    if "ticksuffix" in layout:
        getattr(axes, f"get_{which}axis")().set_major_formatter(f"{{x:g}}{layout['ticksuffix']}")
    if layout.get("tickformat") == ".0%":
        getattr(axes, f"get_{which}axis")().set_major_formatter(PercentFormatter(1.0, 0))


def _plain(text: str) -> str:
    """Plotly's few tags as text; a dollar sign would begin a formula."""
    lines = re.sub(r"<br ?/?>", "\n", text)
    return unescape(re.sub(r"</?[bi]>", "", lines)).replace("$", r"\$")
