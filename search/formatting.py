"""Numbers and configurations in words, one spelling for the terminal, Markdown and HTML; and how lines are printed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

SIZE = "train.image_size"
ABSENT = "n/a"  # a parameter without effect in this trial, or a value never measured
ASKED = ("net.depth", "net.version", "net.shortcut")  # the question of the study: shown even where they are fixed


def say(console: "Console", text: str, whole: bool = False) -> None:
    """Prints a text as it is. A terminal breaks its lines between words where they are not to be kept `whole`."""
    console.print(text, markup=False, highlight=False, soft_wrap=whole or not console.is_interactive)


def percent(error: float | None, images: int = 0) -> str:
    """`1.4 %`: as many decimals as `images` images resolve (one of 287 is 0.35 points); one where that is unknown."""
    if error is None:
        return ABSENT
    return f"{error:.{1 if images <= 1000 else 2}f} %"


def error_on(split: str, measure: str) -> str:
    """`test error`, `validation balanced error`."""
    return f"{split} {measure.replace('_', ' ')}"


def points(value: float | None) -> str:
    """A mean of several trainings, or a difference, to hundredths of a point."""
    return ABSENT if value is None else f"{value:.2f}"


def probability(value: float | None) -> str:
    """`0.97`; never 0 or 1, for nothing measured is certain."""
    if value is None:
        return ABSENT
    return "< 0.01" if value < 0.01 else "> 0.99" if value > 0.99 else f"{value:.2f}"


def magnitude(count: int | None) -> str:
    """`0.27M`, `41M`, `1.2G`, `14k`: two significant digits, in millions as the papers print them."""
    if count is None:
        return ABSENT
    if count < 1000:
        return str(count)
    scale, unit = (1e9, "G") if count >= 1e9 else (1e6, "M") if count >= 1e5 else (1e3, "k")
    value = count / scale
    return f"{value:.{0 if value >= 9.95 else 1 if value >= 0.995 else 2}f}{unit}"


def duration(seconds: float | None) -> str:
    """`0.8 s`, `42 s`, `1 min 32 s`, `2 h 05 min`."""
    if seconds is None:
        return ABSENT
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def milliseconds(value: float | None) -> str:
    """`0.82 ms`, `5.2 ms`, `41 ms`, `1,240 ms`: two significant digits at least."""
    if value is None:
        return ABSENT
    return f"{value:,.{0 if value >= 9.95 else 1 if value >= 0.995 else 2}f} ms"


def plural(number: int, noun: str) -> str:
    """`1 epoch`, `12 epochs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def shown(value: Any) -> str:
    """A parameter's value: floats to three significant digits, a missing one as `n/a`."""
    if value is None:
        return ABSENT
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def headings(paths: Sequence[str]) -> dict[str, str]:
    """`train.weight_decay` -> `weight decay`; the whole path where two would read the same."""
    short = {path: path.rpartition(".")[2].replace("_", " ") for path in paths}
    names = list(short.values())
    return {path: name if names.count(name) == 1 else path for path, name in short.items()}


def network(params: Mapping[str, Any]) -> str:
    """`20-layer v2 identity`, or the first parameters where these three are not all known."""
    if all(path in params for path in ASKED):
        depth, version, shortcut = (params[path] for path in ASKED)
        return f"{_pretrained(params)}{depth}-layer {version} {shortcut}{_sized(params)}"
    return ", ".join(f"{path} {shown(value)}" for path, value in list(params.items())[:3])


def _pretrained(params: Mapping[str, Any]) -> str:
    return "pretrained " if params.get("train.start", "scratch") not in ("scratch", ABSENT) else ""


def _sized(params: Mapping[str, Any]) -> str:
    """The size of the images, where trials have their own."""
    size = params.get(SIZE, 0)
    return f" at {size} pixels" if size not in (0, ABSENT) else ""


def configuration(params: Mapping[str, Any], paths: Sequence[str]) -> str:
    """The network, then `name value` of those `paths` that it does not say itself."""
    known = ASKED if all(path in params for path in ASKED) else ()
    names = headings(paths)
    rest = [f"{names[path]} {shown(params[path])}" for path in paths if path in params and path not in (*known, SIZE)]
    if not known:
        return ", ".join(rest) or network(params)
    return ", ".join([network(params), *rest])


def network_sentence(params: Mapping[str, Any]) -> str:
    """`a 20-layer v2 residual network with identity shortcuts`: the object of the sentence "Use ..."."""
    if not all(path in params for path in ASKED):
        return f"the configuration {network(params)}"
    depth, version, shortcut = (params[path] for path in ASKED)
    layers = f"{_pretrained(params)}{depth}-layer"
    article = "an" if layers.startswith(("8", "11-", "18-")) else "a"
    if shortcut == "none":
        return f"{article} {layers} plain network ({version} order, no shortcuts){_sized(params)}"
    kind = {"conv1x1": "1x1-convolution"}.get(shortcut, str(shortcut).replace("_", "-"))
    return f"{article} {layers} {version} residual network with {kind} shortcuts{_sized(params)}"
