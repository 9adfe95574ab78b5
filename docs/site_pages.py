"""What the site shows in another way than a repository: equations, and links to files that are no page."""

import re
from typing import Any

from latex2mathml.converter import convert

CODE = r"(```.*?```|`[^`\n]*`)"
DISPLAYED, EQUATION = r"\$\$(.+?)\$\$", r"\$([^$\n]+)\$"
OUTSIDE = r"\[([^\]]+)\]\(\.\./(?:benchmarks|README|CONTRIBUTING)[^)]*\)"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Equations as MathML, which browsers draw by themselves; of links that leave docs/ the words."""
    parts = re.split(CODE, markdown, flags=re.DOTALL)
    for place in range(0, len(parts), 2):  # the others are code
        shown = re.sub(DISPLAYED, lambda found: convert(found[1], display="block"), parts[place], flags=re.DOTALL)
        shown = re.sub(EQUATION, lambda found: convert(found[1]), shown)
        parts[place] = re.sub(OUTSIDE, r"\1", shown)
    return "".join(parts)
