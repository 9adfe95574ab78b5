"""`imagefolder:PATH`: train/CLASS/*.jpg and, if shipped, val/ and test/ with the same class folders."""

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
import unicodedata
import warnings
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from search.data.source import Counts, Images, Pixels, Shipped, Source, images_at_a_time
from search.data.splits import class_counts
from search.errors import InputError
from search.machine import usable
from search.storage import fault

if TYPE_CHECKING:
    from PIL.Image import Image


FILES_PER_PROCESS = 256  # a process takes 0.25 s to start, an image 0.3 ms and more
TASK = 16  # images that a process is asked for at once
LARGEST = 2**25  # pixels that an image is resized to as a whole, of 4 bytes; a longer strip is cropped before
_HEAD = struct.Struct(">I")  # of each answer: 0, and the pixels follow; or the length of the error's text that follows
_START = "import sys; sys.path[:] = sys.argv[1:]; from search.data.folder import serve; serve()"
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs it also raises


def decode(path: Path, size: int) -> Pixels:
    """One image as uint8 (size, size, 3): upright, shorter side resized to `size` (bilinear), cropped at the centre.

    Raises:
        InputError: naming the file, when it cannot be decoded or has more than 8 bits a channel.
    """
    from PIL import Image, ImageOps

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


def _square(image: "Image", size: int) -> "Image":
    """The centre of `image`, (size, size), after its shorter side is resized to `size`."""
    from PIL.Image import Resampling

    width, height = image.size
    scale = size / min(width, height)
    wide, high = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = (wide - size) // 2, (high - size) // 2
    if wide * high <= LARGEST:
        resized = image.resize((wide, high), Resampling.BILINEAR)
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
    return part.resize((size, size), Resampling.BILINEAR, (box[0], box[2], box[1], box[3]))


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
        assert isinstance(self._process.stdin, io.BufferedWriter)
        assert isinstance(self._process.stdout, io.BufferedReader)
        self._requests, self._answers = self._process.stdin, self._process.stdout

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


SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
DEFAULT_SIZE = 32  # pixels
# A class's name stands in reports, tables and JSON. These cannot be written as UTF-8, end a line, or turn the text that
# follows: Unicode's general categories, and its classes of bidirectional embeddings, overrides and isolates.
UNFIT = frozenset({"Cc", "Cs", "Zl", "Zp", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def folder_source(root: Path, image_size: int) -> Source:
    """The images below `root`, RGB, resized by the shorter side to `image_size` pixels and cropped at the centre.

    Raises:
        InputError: when train/ or its class folders are missing, a class folder has no image or an unfit name, an image
            is no file that can be read, or the classes of val/ or test/ differ from those of train/.
    """
    train = _class_files(root, "train")
    if not train:
        raise InputError(
            f"data.name: there are no class folders in {root / 'train'}; put the images of each class into "
            f"{root / 'train'}/CLASS/"
        )
    if len(train) < 2:
        raise InputError(
            f"data.name: {root / 'train'} has the one class {next(iter(train))!r}; add a second class folder"
        )
    others = {split: _class_files(root, split) for split in ("val", "test") if os.path.lexists(root / split)}
    for split, found in others.items():
        if found.keys() != train.keys():
            odd = min(found.keys() ^ train.keys())
            where, lacks = (split, "train") if odd in found else ("train", split)
            raise InputError(
                f"data.name: class folder {odd!r} is in {root / where} but not in {root / lacks}; "
                "give both the same classes"
            )
    splits = {"train": train, **others}
    return _source(splits, image_size)


def _source(splits: dict[str, dict[str, list[Path]]], size: int) -> Source:
    names = tuple(splits["train"])
    files = {split: [path for paths in found.values() for path in paths] for split, found in splits.items()}
    labels = {
        split: np.repeat(np.arange(len(names), dtype=np.int64), [len(found[name]) for name in names])
        for split, found in splits.items()
    }

    def stream(split: str, indices: NDArray[np.int64]) -> Generator[Pixels]:
        chosen = [files[split][k] for k in indices.tolist()]
        return decoded(chosen, size, processes_for(len(chosen), usable()))

    def images(split: str) -> Images | None:
        return Images(labels[split], lambda indices: stream(split, indices)) if split in splits else None

    def load() -> Shipped:
        train = images("train")
        assert train is not None
        return Shipped(train, images("val"), images("test"))

    counts = {split: class_counts(values, len(names)) for split, values in labels.items()}
    every = tuple(path for split in splits for path in files[split])
    return Source(names, (size, size, 3), Counts(counts["train"], counts.get("val"), counts.get("test")), every, load)


def _class_files(root: Path, split: str) -> dict[str, list[Path]]:
    """Class name -> its image files, both sorted."""
    folder = root / split
    if not folder.is_dir():
        raise InputError(f"data.name: there is no folder {folder}; give the folder that holds train/ and val/ or test/")
    found: dict[str, list[Path]] = {}
    for entry in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if entry.is_symlink() and not entry.exists():  # a class that would be missing without a word
            raise InputError(f"data.name: {entry} is a link that leads nowhere; restore what it leads to, or remove it")
        if not entry.is_dir():
            continue
        if not UNFIT.isdisjoint(
            {kind(c) for c in entry.name for kind in (unicodedata.category, unicodedata.bidirectional)}
        ):
            raise InputError(
                f"data.name: class folder {entry.name!r} in {folder} has a name with bytes that are not UTF-8, or with "
                "control characters; rename it"
            )
        found[entry.name] = sorted(_images(entry))
        if not found[entry.name]:
            raise InputError(
                f"data.name: class folder {entry} has no image ({', '.join(sorted(SUFFIXES))}); add images or remove it"
            )
    return found


def _images(folder: Path) -> Iterator[Path]:
    """The images in `folder` and in the folders below it, but for hidden ones; none of them is opened."""
    pending = [folder]
    while pending:
        for entry in os.scandir(pending.pop()):
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                pending.append(path)
            elif entry.is_symlink() and path.is_dir():  # it may lead to a folder that it is in
                raise InputError(
                    f"data.name: {path} is a link to a folder, which is not followed within a class folder; put the "
                    "folder itself there, or remove the link"
                )
            elif path.suffix.lower() in SUFFIXES:
                if cause := fault(path):
                    raise InputError(f"data.name: image {path} {cause}; replace or remove it")
                yield path
