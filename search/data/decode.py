"""Image files to pixels of one size, in processes of their own where there are many of them.

Threads are not enough: opening a file, choosing its decoder and handing over the pixels need the interpreter's lock,
two thirds of the time that an image of 64 x 64 pixels takes. The processes are plain children on two pipes that import
NumPy and Pillow alone; those of `multiprocessing` would import the main module again, and so Ray and MLflow, in each.
They end when their standard input does: with the parent, however it ends.

Pillow also resizes, on every machine: a GPU or torchvision rounds one value in a thousand the other way, and a data set
would have another digest on each kind of machine.
"""

import io
import json
import logging
import math
import os
import queue
import signal
import struct
import subprocess
import sys
import warnings
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import numpy as np
from PIL import Image, ImageOps

from search.data.source import Pixels, images_at_a_time
from search.errors import InputError

FILES_PER_PROCESS = 256  # a process takes 0.25 s to start, an image 0.3 ms and more
TASK = 16  # images that a process is asked for at once
LARGEST = 2**25  # pixels that an image is resized to as a whole, of 4 bytes; a longer strip is cropped before
_HEAD = struct.Struct(">I")  # of each answer: 0, and the pixels follow; or the length of the error's text that follows
_START = "import sys; sys.path[:] = sys.argv[1:]; from search.data.decode import serve; serve()"
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs it also raises


def decode(path: Path, size: int) -> Pixels:
    """One image as uint8 (size, size, 3): upright, shorter side resized to `size` (bilinear), cropped at the centre.

    Raises:
        InputError: naming the file, when it cannot be decoded or has more than 8 bits a channel.
    """
    try:
        # Pillow warns of metadata that it leaves out and of images above 89 million pixels; above 178 it refuses them.
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            mode = image.mode
            ImageOps.exif_transpose(image, in_place=True)
            image.load()
            upright = image if mode == "RGB" else image.convert("RGB")  # which would copy it
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise InputError(f"data.name: image {path} cannot be decoded ({error}); replace or remove it") from error
    if mode[0] in "IF":  # converting would clip the upper bits, silently
        raise InputError(f"data.name: image {path} has more than 8 bits a channel ({mode}); convert it to 8 bits")
    return np.asarray(_square(upright, size))


def _square(image: Image.Image, size: int) -> Image.Image:
    """The centre of `image`, (size, size), after its shorter side is resized to `size`."""
    width, height = image.size
    scale = size / min(width, height)
    wide, high = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = (wide - size) // 2, (high - size) // 2
    if wide * high <= LARGEST:
        resized = image.resize((wide, high), Image.Resampling.BILINEAR)
        return resized.crop((left, top, left + size, top + size))
    # The same without the rest of the strip. Pillow takes a box as single-precision numbers, so that a pixel can differ
    # by a level, and large positions would be lost: the box is given within the part that the filter reads.
    kept: list[int] = []
    box: list[float] = []
    for start, whole, resized in ((left, width, wide), (top, height, high)):
        step = whole / resized  # pixels of the image for one of the result
        first = max(0, math.floor((start - 1) * step - 1))
        last = min(whole, math.ceil((start + size + 1) * step + 1))
        kept += [first, last]
        box += [start * step - first, min((start + size) * step, whole) - first]
    part = image.crop((kept[0], kept[2], kept[1], kept[3]))
    return part.resize((size, size), Image.Resampling.BILINEAR, (box[0], box[2], box[1], box[3]))


def processes_for(files: int, cores: int) -> int:
    """How many processes decode that many files; 0: the calling one does, for the others would only have started."""
    wanted = min(cores, files // FILES_PER_PROCESS)
    return wanted if wanted > 1 else 0


def decoded(files: Sequence[Path], size: int, processes: int) -> Generator[Pixels]:
    """The images in order, uint8 (k, size, size, 3) at a time. Closing the iterator ends the processes.

    At most three of these pieces, of about 32 MiB each, are in memory: the caller's, the next, and the one after it.

    Args:
        files: the images.
        size: side in pixels.
        processes: how many decode, 0: this one. The pixels are the same.

    Raises:
        InputError: an image cannot be decoded, a process was killed, or none can be started.
    """
    step = images_at_a_time((size, size, 3))
    pieces = [files[start : start + step] for start in range(0, len(files), step)]
    if processes == 0:
        yield from (np.stack([decode(path, size) for path in piece]) for piece in pieces)
        return
    with Decoders(processes) as decoders:
        following = iter([*pieces[1:], ()])
        making = decoders.submit(pieces[0], size)
        for piece in following:
            pixels, tasks = making
            making = decoders.submit(piece, size)
            for task in tasks:
                task.result()
            yield pixels


class Decoders:
    """Several decoding processes, and a thread for each that talks to it."""

    def __init__(self, processes: int) -> None:
        self._stack = ExitStack()
        self._idle: queue.SimpleQueue[_Decoder] = queue.SimpleQueue()
        with ExitStack() as stack:  # undone at once if one of them cannot be started
            decoders = [stack.enter_context(_Decoder()) for _ in range(processes)]
            self._pool = ThreadPoolExecutor(processes)
            stack.callback(self._pool.shutdown, cancel_futures=True)
            for decoder in decoders:
                stack.callback(decoder.kill)  # first of all when leaving: a thread may wait for its answer
                self._idle.put(decoder)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def submit(self, files: Sequence[Path], size: int) -> tuple[Pixels, list[Future[None]]]:
        """Pixels uint8 (len(files), size, size, 3), valid once every one of the tasks has ended without error."""
        pixels = np.empty((len(files), size, size, 3), np.uint8)
        starts = range(0, len(files), TASK)
        return pixels, [self._pool.submit(self._fill, files[k : k + TASK], pixels[k : k + TASK]) for k in starts]

    def _fill(self, files: Sequence[Path], pixels: Pixels) -> None:
        decoder = self._idle.get()  # there are as many as threads
        try:
            decoder.fill(files, pixels)
        finally:
            self._idle.put(decoder)


class _Decoder:
    """One process that decodes what it is asked for."""

    def __init__(self) -> None:
        # A session of its own keeps Ctrl-C from it, which is the parent's to handle. It does no linear algebra.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _START, *sys.path]
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)
        except OSError as error:  # too many processes, or no memory
            raise InputError(f"data.name: no process to decode images can be started ({error}); end others") from error
        self._requests = cast(io.BufferedWriter, self._process.stdin)
        self._answers = cast(io.BufferedReader, self._process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._process.wait()
        self._answers.close()
        with suppress(BrokenPipeError):  # of a request that it did not live to read
            self._requests.close()

    def kill(self) -> None:
        """Ends the process at once; it has nothing to lose."""
        self._process.kill()

    def fill(self, files: Sequence[Path], pixels: Pixels) -> None:
        """Decodes `files` into `pixels`, in order.

        Raises:
            InputError: a file cannot be decoded, or the process was killed.
        """
        try:
            self._requests.write(json.dumps([pixels.shape[1], *map(str, files)]).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            raise self._ended(files[0]) from None
        for path, place in zip(files, pixels, strict=True):
            head = self._answers.read(_HEAD.size)
            length = _HEAD.unpack(head)[0] if len(head) == _HEAD.size else 0
            text = self._answers.read(length)
            if length and len(text) == length:
                raise InputError(text.decode("utf-8", "surrogatepass"))
            if len(text) < length or self._answers.readinto(place.data) < place.nbytes:
                raise self._ended(path)

    def _ended(self, path: Path) -> Exception:
        code = self._process.wait()
        if code >= 0:  # it has said why
            return RuntimeError(f"the process that was decoding image {path} ended with code {code}")
        return InputError(
            f"data.name: the process that was decoding image {path} was killed by signal {-code}; start again, with "
            "more memory free if it was the system that killed it"
        )


def serve() -> None:
    """What a decoding process does: answers the requests on its standard input until that ends."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the parent is gone: end without a word
    answers = sys.stdout.buffer
    for line in sys.stdin.buffer:
        size, *files = json.loads(line)
        for path in files:
            try:
                pixels = decode(Path(path), size)
            except InputError as error:
                text = str(error).encode("utf-8", "surrogatepass")
                answers.write(_HEAD.pack(len(text)) + text)
                break
            answers.write(_HEAD.pack(0))
            answers.write(np.ascontiguousarray(pixels).data)
        answers.flush()
