"""The answer of a study, written as report.json, report.md, report.html and PNG files; `python -m search.report`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search import report_facts, report_figures, report_html, report_json, report_markdown, report_png, report_text
from search.records import StudySummary, TrialRecord
from search.report_front import unbeaten
from search.whole_file import json_object, replace

FILES = "report.json", "report.md", "report.html"

__all__ = ["Report", "answer", "is_of", "write"]


@dataclass(frozen=True)
class Report:
    """Where the files lie, the answer in Markdown, and the numbers of the trials on the Pareto front."""

    json: Path
    markdown: Path
    html: Path
    images: tuple[Path, ...]  # PNG
    answer: str
    front: tuple[int, ...]  # empty where the study has one objective alone


def answer(summary: StudySummary, records: Sequence[TrialRecord]) -> str:
    """Markdown: what a terminal and an MLflow note show of a study with these records."""
    return report_text.answer(summary, report_facts.without_refused(records)[0])


def is_of(folder: Path, summary: StudySummary) -> bool:
    """Whether `folder` holds a report with which this study, as it is now, has ended."""
    files = [folder / name for name in FILES]
    if not all(file.exists() for file in files):
        return False
    content = json_object(files[0])
    now = {
        "study": summary.name,
        "description": summary.description,
        "space": summary.space,
        "settings": report_json.settings(summary),
        "concluded": True,
    }
    return now == {key: content.get(key) for key in now}


def write(
    folder: Path,
    summary: StudySummary,
    records: Sequence[TrialRecord],
    importance: dict[str, float],
    concluded: bool = True,
) -> Report:
    """Writes the files into `folder`, each whole or not at all; older ones are replaced.

    Args:
        folder: of the study.
        summary: of the study.
        records: its trials; may hold proposals that were beyond the limits: no trials, and only counted.
        importance: what `search.importance.importance` returns; {} leaves that part out.
        concluded: whether a start of the study ends with this report, and tells MLflow of it.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    trials, refused = report_facts.without_refused(records)
    figures = report_figures.figures(summary, trials, importance)
    content = report_json.document(summary, trials, importance, refused, concluded)
    told = report_text.answer(summary, trials)
    front = tuple(trial.number for trial in unbeaten(summary, trials))
    files = [folder / name for name in FILES]
    replace(files[0], report_json.text(content).encode())
    replace(files[1], report_markdown.markdown(summary, trials, importance, refused).encode())
    replace(files[2], report_html.page(summary, trials, figures, importance, refused).encode())
    images = report_png.write(folder, report_figures.pictures(figures), summary.name)
    return Report(files[0], files[1], files[2], images, told, front)


if __name__ == "__main__":
    from search.report_command import main

    sys.exit(main())
