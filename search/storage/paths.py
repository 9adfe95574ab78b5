"""Paths that a user names: what the system says of them is told before anything is opened."""

import errno
import os
import stat
from pathlib import Path

from search.errors import InputError


def expanded(text: str, field: str) -> Path:
    """The path, with `~` replaced.

    Raises:
        InputError: it begins with the home of a user that the system does not know.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(f"{field}: {text!r} is no path ({error}); correct it") from None


def resolved(text: str, field: str) -> Path:
    """The absolute path, with `~` replaced and links followed.

    Raises:
        InputError: as `expanded` does; also for a link that leads to itself, and a zero byte.
    """
    try:
        return expanded(text, field).resolve()
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{field}: {text!r} is no path ({error}); correct it") from None


def fault(path: Path) -> str | None:
    """Why `path` cannot be read as a file, as the end of a clause; None where it can.

    Nothing is opened: opening a pipe waits for its writer, and some devices never end.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        missing = isinstance(error, FileNotFoundError)
        if (missing or getattr(error, "errno", None) == errno.ELOOP) and path.is_symlink():
            return "is a link that leads to no file"
        return "does not exist" if missing else f"cannot be read ({getattr(error, 'strerror', error)})"
    if stat.S_ISDIR(mode):
        return "is a folder"
    if not stat.S_ISREG(mode):
        return "is no regular file"
    return None if os.access(path, os.R_OK) else f"cannot be read ({os.strerror(errno.EACCES)})"


def user_cache() -> Path:
    """The user's cache folder by the XDG base directory specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
