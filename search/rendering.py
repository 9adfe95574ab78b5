"""Jinja2 templates: every value that they print is escaped, by the rules of HTML or of Markdown."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def render(template: Path, **values: Any) -> str:
    """The text of a template, an `.html` or a `.md`; it may import the others of its folder.

    What is marked as safe (`markupsafe.Markup`) is printed as it is; a name without a value is an error.
    """
    found = _environment(template.parent, template.suffix).get_template(template.name).render(values)
    # A part of a Markdown template that has nothing to say leaves its empty lines.
    return re.sub(r"\n{3,}", "\n\n", found).strip() + "\n" if template.suffix == ".md" else found


@cache
def _environment(folder: Path, suffix: str) -> Environment:
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        finalize=_markdown if suffix == ".md" else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _markdown(value: Any) -> Markup:
    """A printed value on one line, as safe: so that HTML's rules leave it alone, and it ends no cell."""
    text = str(value).replace("|", "\\|").replace("<", "&lt;")
    return value if isinstance(value, Markup) else Markup(" ".join(text.split()))
