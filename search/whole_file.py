"""Files that are replaced whole."""

import os
from pathlib import Path


def replace(path: Path, data: bytes) -> None:
    """A reader, a kill at any instant or a power cut finds the old file or the new one, never a part.

    Raises:
        OSError: the folder is missing, full or cannot be written; the old file is as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
