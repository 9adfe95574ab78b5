"""Small data sets that tests write to disk, and a process of its own that prepares one."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from search.spec import DataInfo

PREPARE = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
from search.data.prepared import prepare; from search.spec.data import DataSpec
spec = DataSpec.model_validate_json(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
prepared = prepare(spec)
images = prepared.folder / "images.npy"
print(images.stat().st_ino, images.stat().st_mtime_ns, prepared.info.digest, flush=True)
"""


def write_npz(path: Path, n: int = 20, n_test: int = 6, **changed: Any) -> str:
    """A data set of two classes of noise, 4x5 pixels, 3 channels; `changed` replaces arrays. Returns its name."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (n, 4, 5, 3), dtype=np.uint8),
        "y_train": np.arange(n) % 2,
        "x_test": rng.integers(0, 256, (n_test, 4, 5, 3), dtype=np.uint8),
        "y_test": np.arange(n_test) % 2,
    }
    np.savez(path, **{**arrays, **changed})
    return f"npz:{path}"


def write_folder(root: Path, splits: dict[str, dict[str, int]], size: tuple[int, int] = (40, 32)) -> str:
    """Plain images, {split: {class: how many}}, (width, height); grey level 10 x class + number. Returns its name."""
    for split, classes in splits.items():
        for c, (name, n) in enumerate(classes.items()):
            folder = root / split / name
            folder.mkdir(parents=True)
            for k in range(n):
                Image.new("RGB", size, (10 * c + k,) * 3).save(folder / f"{k}.png")
    return f"imagefolder:{root}"


def preparing(spec_json: str) -> subprocess.Popen[str]:
    """A process that has said that it is ready and prepares as soon as it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PREPARE, spec_json],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@contextmanager
def held(path: Path) -> Iterator[Callable[[], None]]:
    """Whoever opens `path` waits meanwhile, at most for /proc/sys/fs/lease-break-time, which is 45 s.

    Yields what waits for that: a process is then in the middle of whatever it reads `path` for.
    """

    def wait() -> None:
        until = time.monotonic() + 40
        while fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_WRLCK:
            assert time.monotonic() < until, f"nobody opens {path}"
            time.sleep(0.01)

    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the system's word that the file is wanted
    file = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield wait
    finally:
        os.close(file)
        signal.signal(signal.SIGIO, before)


def grey(side: int) -> DataInfo:
    """A data set of two classes of grey squares, of which nothing is on the disk."""
    return DataInfo(
        name="grey",
        classes=("cat", "dog"),
        height=side,
        width=side,
        channels=1,
        n_train=100,
        n_validation=10,
        n_test=10,
        counts_validation=(5, 5),
        counts_test=(5, 5),
    )
