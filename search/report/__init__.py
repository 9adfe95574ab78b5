"""The answer of a study, as files."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.report.files import FILES, Report, is_of, short_answer, write
else:
    __getattr__ = lazy(
        __name__,
        files="FILES Report is_of short_answer write",
    )
