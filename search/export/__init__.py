"""A network of a study, as files that load without it."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.export import graphs
    from search.export.bundle import (
        CHAMPION,
        champion,
        check_free,
        chosen,
        export,
        export_champion,
        is_exported,
        lacks,
        mend,
    )
    from search.export.trained import Exportable, Facts
else:
    __getattr__ = lazy(
        __name__,
        bundle="CHAMPION champion check_free chosen export export_champion is_exported lacks mend",
        trained="Exportable Facts",
    )
