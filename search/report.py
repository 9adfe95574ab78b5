"""The answer of a study, written as report.json, report.md and report.html."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search import report_facts, report_html, report_json, report_markdown, report_text
from search.records import StudySummary, TrialRecord
from search.report_front import unbeaten
from search.whole_file import replace

__all__ = ["Report", "answer", "is_of", "write"]


@dataclass(frozen=True)
class Report:
    """Where the three files lie, the answer in Markdown, and the numbers of the trials on the Pareto front."""

    json: Path
    markdown: Path
    html: Path
    answer: str
    front: tuple[int, ...]  # empty where the study has one objective alone


def answer(summary: StudySummary, records: Sequence[TrialRecord]) -> str:
    """Markdown: what a terminal and an MLflow note show of a study with these records."""
    return report_text.answer(summary, report_facts.without_refused(records)[0])


def is_of(folder: Path, summary: StudySummary) -> bool:
    """Whether `folder` holds a report of this study as it is now: of this space, these objectives, limits and so on."""
    try:
        content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    now = {
        "study": summary.name,
        "description": summary.description,
        "space": summary.space,
        "settings": report_json.settings(summary),
    }
    return now == {key: content.get(key) for key in now}


def write(folder: Path, summary: StudySummary, records: Sequence[TrialRecord], importance: dict[str, float]) -> Report:
    """Writes the three files into `folder`, each whole or not at all; older ones are replaced.

    `records` may hold proposals that were beyond the limits: no trials, and only counted. `importance` is what
    `search.importance.importance` returns; {} leaves that part out.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    trials, refused = report_facts.without_refused(records)
    report = Report(
        folder / "report.json",
        folder / "report.md",
        folder / "report.html",
        report_text.answer(summary, trials),
        tuple(trial.number for trial in unbeaten(summary, trials)),
    )
    replace(report.json, report_json.text(report_json.document(summary, trials, importance, refused)).encode())
    replace(report.markdown, report_markdown.markdown(summary, trials, importance, refused).encode())
    replace(report.html, report_html.page(summary, trials, importance, refused).encode())
    return report
