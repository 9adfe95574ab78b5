"""What papers report of the configurations of a study."""

from collections.abc import Mapping
from typing import Any

from search import report_words as words
from search.published import Found, differences, figure, figures_for, keys
from search.records import Finalist, Finals, StudySummary


def of_params(summary: StudySummary, params: Mapping[str, Any]) -> tuple[Found, ...]:
    """Those of exactly this network, trained on the training images of a search."""
    return _found(summary, params, int(summary.data["train"]))


def of_finalist(summary: StudySummary, finals: Finals, finalist: Finalist) -> tuple[Found, ...]:
    """Those that the study sets beside it, or else those of exactly its network."""
    data, images = summary.data["name"], finals.trained_on
    if finalist.published:
        chosen = [figure(key) for key in finalist.published]
        return tuple(Found(one, differences(one, finalist.params, data, images)) for one in chosen)
    return _found(summary, finalist.params, images)


def _found(summary: StudySummary, params: Mapping[str, Any], images: int) -> tuple[Found, ...]:
    data = summary.data["name"]
    if not any(figure(key).data == data for key in keys()):
        return ()
    return figures_for(params, data, images)


def sentence(found: Found) -> str:
    """The figure, where it is from, and what was done in another way."""
    other = ", ".join(
        f"{path} {words.shown(here)} in place of {words.shown(paper)}"
        for path, (paper, here) in found.differences.items()
    )
    how = f"; here with {other}" if other else ""
    return f"{found.figure} ({found.figure.statistic}; {found.figure.source}){how}"


def short(found: tuple[Found, ...]) -> str:
    """`6.61 %`, for a cell; empty where there is none."""
    return " / ".join(dict.fromkeys(str(one.figure) for one in found))
