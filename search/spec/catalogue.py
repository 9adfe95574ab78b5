"""The studies that come with the package, by name."""

from pathlib import Path

from search.errors import InputError, hint
from search.storage import expanded, fault

SHIPPED = Path(__file__).parent / "studies"


def shipped() -> dict[str, Path]:
    """Name -> file of the studies that come with the package."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"), key=lambda path: path.stem)}


def find(study: str) -> Path:
    """The file of a shipped study, or the file itself.

    Raises:
        InputError: there is neither.
    """
    if study in shipped():
        return shipped()[study]
    path = expanded(study, "study")
    if path.suffix in (".yaml", ".yml"):
        cause = fault(path)
        if cause is None:
            return path
        cause = "there is no such file" if cause == "does not exist" else f"it {cause}"
        raise InputError(f"study {study!r}: {cause}; {hint(study, list(shipped()))}")
    raise InputError(f"study {study!r} is unknown; {hint(study, list(shipped()))} (or give a file that ends in .yaml)")
