"""The answer of a study, written as report.json, report.md and report.html."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search import report_html, report_json, report_text
from search.records import StudySummary, TrialRecord
from search.report_text import answer

__all__ = ["Report", "answer", "write"]


@dataclass(frozen=True)
class Report:
    """Where the three files lie, and the answer in Markdown."""

    json: Path
    markdown: Path
    html: Path
    answer: str


def write(folder: Path, summary: StudySummary, trials: Sequence[TrialRecord], importance: dict[str, float]) -> Report:
    """Writes the three files into `folder`, each whole or not at all; older ones are replaced.

    `importance` is what `search.importance.importance` returns; {} leaves that part out.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    content = report_json.document(summary, trials, importance)
    report = Report(folder / "report.json", folder / "report.md", folder / "report.html", answer(summary, trials))
    _replace(report.json, report_json.text(content))
    _replace(report.markdown, report_text.markdown(summary, trials, importance))
    _replace(report.html, report_html.page(summary, trials, importance))
    return report


def _replace(path: Path, text: str) -> None:
    """A reader, or a kill at any instant, finds the old file or the new one, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
