"""report"""

from search.report.files import is_of, short_answer, write
from search.report.png import FOLDER

__all__ = ["FOLDER", "is_of", "short_answer", "write"]
