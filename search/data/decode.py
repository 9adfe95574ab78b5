"""Image files to pixels of one size, in several processes where there are many of them.

Pillow also resizes, on every machine: a GPU or torchvision rounds one value in a thousand the other way, and a data set
would have another digest on each kind of machine.
"""

import logging
import os
import struct
import warnings
from collections.abc import Generator, Sequence
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread, current_thread, main_thread
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from resnet.images import centre
from search.data.source import Pixels, Unfit, UnfitError, images_at_a_time
from search.errors import InputError, first_line

FILES_PER_PROCESS = 256  # an image takes 0.3 ms and more: fewer are decoded before a process has started
TASK = 16  # images that a process is asked for at once
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs it also raises


def decode(path: Path, size: int) -> Pixels:
    """One image as uint8 (size, size, 3): upright, shorter side resized to `size` (bilinear), cropped at the centre.

    Raises:
        UnfitError: naming the file, when it cannot be decoded, is too long a strip, or has more than 8 bits a channel.
    """
    try:
        # Pillow warns of metadata that it leaves out and of images above 89 million pixels; above 178 it refuses them.
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            mode = image.mode
            ImageOps.exif_transpose(image, in_place=True)
            image.load()
            square = None if mode[0] in "IF" else centre(image.convert("RGB"), size, size)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise UnfitError([Unfit(path, f"cannot be decoded ({error})")]) from error
    if square is None:  # converting would clip the upper bits, silently
        raise UnfitError([Unfit(path, f"has more than 8 bits a channel ({mode})", "convert it to 8 bits")])
    return np.asarray(square)


def processes_for(files: int, cores: int) -> int:
    """How many processes decode that many files; 0: the calling one does, for the others would only have started."""
    wanted = min(cores, files // FILES_PER_PROCESS)
    return wanted if wanted > 1 else 0


def decoded(files: Sequence[Path], size: int, processes: int) -> Generator[Pixels]:
    """The images in order, uint8 (k, size, size, 3) at a time. Closing the iterator ends the processes.

    In memory are at most two pieces for each process, of `TASK` images or 32 MiB each, and that of the caller.

    Args:
        files: the images.
        size: side in pixels.
        processes: how many decode, 0: this one, as ever outside of the main thread. The pixels are the same.

    Raises:
        UnfitError: naming all that cannot be decoded, once every image has been looked at.
        InputError: a process was killed, or none can be started.
    """
    step = min(TASK, images_at_a_time((size, size, 3)))
    # Elsewhere torch would wait for ever for the rest of what a process was sending when it was killed.
    processes = processes if current_thread() is main_thread() else 0
    loader = DataLoader(
        _Decoder(size),
        batch_size=None,
        sampler=[files[start : start + step] for start in range(0, len(files), step)],
        num_workers=processes,
        collate_fn=_unchanged,
        worker_init_fn=_end_with_parent,
        generator=torch.Generator(),  # it draws a number at its start, which must not be one of the process's
    )
    unfit: list[Unfit] = []
    try:
        for piece in loader:
            if isinstance(piece, list):
                unfit += piece
            elif not unfit:
                yield piece
        if unfit:
            raise UnfitError(unfit)
        return
    except (OSError, RuntimeError) as error:
        cause = first_line(error)
    # Out here: as long as there is the exception, there are the frames that it came through, and so the processes.
    raise InputError(
        f"data.name: the processes that decode images have ended early or cannot be started ({cause}); start again, "
        "with more memory or fewer other processes"
    )


class _Decoder(Dataset[Pixels | list[Unfit]]):
    """The images of a list of files, or those that are unfit, as data: torch would add a traceback."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __getitem__(self, files: Sequence[Path]) -> Pixels | list[Unfit]:
        images: list[Pixels] = []
        unfit: list[Unfit] = []
        for path in files:
            try:
                images.append(decode(path, self._size))
            except UnfitError as error:
                unfit += error.images
        return unfit or np.stack(images)


def _end_with_parent(_: int) -> None:
    """Ends a process when its parent has ended, in whatever way, which torch's waits with until its pixels are read."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _unchanged(piece: Any) -> Any:
    """In place of torch's conversion to tensors, which takes shared memory: containers have little."""
    return piece
