"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def literal(text: str) -> str:
    """Text that Markdown takes neither for the end of a cell nor for HTML, on one line."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[str] = ()) -> str:
    """A Markdown table; columns named in `numeric` are set to the right."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(literal(cell) for cell in cells) + " |"

    rule = ["---:" if name in numeric else "---" for name in head]
    return "\n".join([line(head), line(rule), *(line(row) for row in rows)])
