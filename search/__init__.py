"""Which residual network to use: a search over depth, block version and shortcut, on one machine or many."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.errors import Halted, InputError
    from search.spec import StudySpec, TrialSpec
    from search.study import Result, Study

__version__ = "0.1.0"
__all__ = ["Halted", "InputError", "Result", "Study", "StudySpec", "TrialSpec"]


def lazy(package: str, **offers: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package that loads each of its names when it is first used.

    Reading flags does not wait for torch.

    Args:
        package: its name.
        offers: module of the package -> names that the package offers of it, with spaces between.
    """
    modules = {name: module for module, names in offers.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return get


__getattr__ = lazy(__name__, errors="Halted InputError", spec="StudySpec TrialSpec", study="Result Study")
