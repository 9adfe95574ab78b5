"""Images as bytes on this machine: found, checked, split and prepared once."""
# pyright: reportUnusedImport=false

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.data.prepared import Prepared, Split, check, on_this_machine, prepare
else:
    __getattr__ = lazy(
        __name__,
        prepared="Prepared Split check on_this_machine prepare",
    )
