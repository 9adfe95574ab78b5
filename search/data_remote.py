"""Raw data behind a URL: copied once to each machine that prepares it, from whatever fsspec can open."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec

from search.data_cache import user_cache
from search.errors import InputError
from search.redact import public, without_credentials


def copy_of(url: str) -> Path:
    """Where this machine keeps what it has copied from `url`."""
    return user_cache() / "datasets" / f"copy-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def fetch(url: str, choices: Sequence[tuple[str, ...]], root: Path) -> None:
    """Copies the first of these sets of files that is whole below `url` into `root`. The caller holds a lock.

    Raises:
        InputError: the URL cannot be read, or holds none of the sets.
    """
    shown = public(url)
    try:
        store, path = fsspec.core.url_to_fs(url)
        for names in choices:
            if all(store.isfile(f"{path.rstrip('/')}/{name}") for name in names):
                for name in names:
                    _copy(store, f"{path.rstrip('/')}/{name}", root / name)
                return
    except ImportError as error:
        raise InputError(f"data.dir = {shown!r}: {without_credentials(str(error), url)}") from error
    except Exception as error:  # whatever the store's client raises
        cause = " ".join(without_credentials(str(error), url).split())
        raise InputError(f"data.dir = {shown!r} cannot be read ({cause}); correct it, or the access to it") from error
    raise InputError(f"data.dir = {shown!r} does not hold {' and '.join(choices[0])}; put them there")


def _copy(store: Any, source: str, target: Path) -> None:
    """Whole, or not at all."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")
    store.get_file(source, str(partial))
    partial.replace(target)
