"""The answer of a study, as files."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.report.files import is_of, short_answer, write

__all__ = ["is_of", "short_answer", "write"]

__getattr__ = lazy(
    __name__,
    files="is_of short_answer write",
)
