"""Prepared data: built once on a machine, whole or not at all, checked, and memory-mapped by all who train.

`check` refuses bad input fast, `prepare` downloads and prepares (the driver), `on_this_machine` does what is needed
(the workers).

A preparation is a folder with `images.npy` and `labels.npy` (train, then validation), `test_images.npy`,
`test_labels.npy`, `test_names.json` (the files of a folder of images), `meta.json`, and `SHA256SUMS` of all of these.
`verified.json` saves reading them at every start.
"""

import hashlib
import json
import shutil
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from search.data.folder import DEFAULT_SIZE, folder_source
from search.data.source import Images, Pixels, Source, Unfit, UnfitError, images_at_a_time, npz_source
from search.data.splits import Part, arrange, planned
from search.data.standard import STANDARD, digits_source, standard_source
from search.data.survey import survey
from search.errors import InputError, hint
from search.spec import DataInfo, DataSpec, PreparedInfo, Survey
from search.storage import paths

FORMAT = 7  # of the folder; part of its name's digest
ARRAYS = ("images.npy", "labels.npy", "test_images.npy", "test_labels.npy")
META, TEST_NAMES, SUMS, VERIFIED = "meta.json", "test_names.json", "SHA256SUMS", "verified.json"
NAMES = ["digits", *STANDARD, "imagefolder:PATH", "npz:PATH"]


@dataclass(frozen=True)
class Split:
    """One split: image k has label k. Memory-mapped copy-on-write, so that torch.from_numpy takes it as it is."""

    images: Pixels  # (n, H, W, C) uint8
    labels: NDArray[np.int64]  # (n,)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Prepared:
    """A prepared data set: a path and numbers only, cheap to pickle. Arrays are opened when a split is asked for."""

    info: PreparedInfo
    folder: Path

    def train(self) -> Split:
        """The images to train on.

        Raises:
            InputError: here and in the other three, when a file of the split is gone or too short.
        """
        return self._split("", slice(0, self.info.n_train))

    def validation(self) -> Split:
        """The images that a search compares by."""
        return self._split("", slice(self.info.n_train, None))

    def whole(self) -> Split:
        """The images to train on and those to compare by, as one split: what a finalist is trained on."""
        return self._split("", slice(None))

    def test(self) -> Split:
        """The images for the final figure: to be read once, after the search. No other method opens their files."""
        return self._split("test_", slice(None))

    def test_names(self) -> tuple[str, ...]:
        """Of the test images in order: their files below the folder of images; empty for other data."""
        return tuple(json.loads((self.folder / TEST_NAMES).read_bytes()))

    def _split(self, prefix: str, part: slice) -> Split:
        return Split(self._array(f"{prefix}images.npy")[part], self._array(f"{prefix}labels.npy")[part])

    def _array(self, name: str) -> NDArray[Any]:
        """Mapped, so that the processes which read it share its pages."""
        try:
            return np.lib.format.open_memmap(self.folder / name, mode="c")
        except (OSError, ValueError):
            raise InputError(
                f"data: {self.folder / name} is damaged; start the study again, which prepares the data again"
            ) from None


def check(spec: DataSpec) -> DataInfo:
    """What the data set is, without preparing, decoding or downloading anything.

    Raises:
        InputError: for an unknown name, missing or unfit files, or splits that the images do not allow.
    """
    return planned(spec, _find(spec))


def prepare(spec: DataSpec) -> Prepared:
    """Download if needed, prepare once per machine, and open. Safe to call from several processes at once.

    Raises:
        InputError: as `check` does; also when a download fails, an image cannot be decoded or the cache not written.
    """
    root = paths.user_cache() / "resnet-search" / "data"
    source = _find(spec)
    planned(spec, source)
    if source.download is not None:
        with _locked(root / f"download-{spec.name}.lock"):
            source = _find(spec)  # another process may have downloaded it while this one waited
            if source.download is not None:
                source.download()
                source = _find(spec)
    folder = root / _folder_name(spec, source)
    with _locked(root / f"{folder.name}.lock"):
        if not _is_intact(folder):
            _build(folder, source, spec)
            if not _is_intact(folder):
                raise InputError(f"data: {folder} reads back differently from what was written; check that disk")
    return _opened(folder)


def on_this_machine(folder: Path, spec: DataSpec, digest: str) -> Prepared:
    """What the driver prepared in `folder`, or, on a machine that does not have it whole, prepared here from raw files.

    Raises:
        InputError: as `prepare` does; also when the data are not those with the driver's `digest`.
    """
    prepared = _opened(folder) if _is_intact(folder) else prepare(spec)
    if prepared.info.digest != digest:
        raise InputError(
            f"data: {spec.name} on {socket.gethostname()} is not what the study began with (digest "
            f"{prepared.info.digest[:12]}, not {digest[:12]}); give every machine the same files, such as by one "
            "--data-dir that they share"
        )
    return prepared


def _find(spec: DataSpec) -> Source:
    kind, _, path = spec.name.partition(":")
    for option in ("image_size", "groups", "drop_duplicates"):
        able = ("imagefolder", "npz") if option == "image_size" else ("imagefolder",)
        if (value := getattr(spec, option)) is not None and kind not in able:
            raise InputError(f"data.{option} = {value} has no effect on {spec.name!r}; leave it out")
    if kind in ("imagefolder", "npz") and not path:
        raise InputError(f"data.name = {spec.name!r} has no path; write {kind}:PATH")
    try:
        if kind == "imagefolder":
            return folder_source(paths.resolved(path, "data.name"), spec.image_size or DEFAULT_SIZE, spec.groups)
        if kind == "npz":
            return npz_source(paths.resolved(path, "data.name"), size=spec.image_size)
        if spec.name == "digits":
            return digits_source()
        if spec.name in STANDARD:
            return standard_source(spec)
    except OSError as error:
        raise InputError(
            f"data: {error.filename} cannot be read ({error.strerror}); give access to it, or name other data"
        ) from error
    raise InputError(f"data.name = {spec.name!r} is no known data set; {hint(spec.name.lower(), NAMES)}")


def _folder_name(spec: DataSpec, source: Source) -> str:
    """Differs when a raw file or an option changes, but not when the raw files are only in another place.

    The time of the last change of a file's content or its record (ctime) cannot be set, as the time of the last change
    of its content can be: by `touch`, `cp -p`, or an archive that is unpacked over another.
    """
    kind, _, path = spec.name.partition(":")
    slug = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in Path(path).stem or kind)
    files = [(str(path), stat.st_size, stat.st_ctime_ns) for path in source.files if (stat := path.stat())]
    groups = [numbers.tolist() for numbers in source.groups.values()]
    key = json.dumps([FORMAT, spec.model_dump(exclude={"dir"}), source.shape, files, groups])
    return f"{slug}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Holds a lock of this machine, which the system frees when the holder dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield
    except OSError as error:
        raise InputError(
            f"XDG_CACHE_HOME: prepared data cannot be written to {path.parent} ({error.strerror or error}); "
            "point XDG_CACHE_HOME to a folder that is writable and has space"
        ) from error


def _opened(folder: Path) -> Prepared:
    return Prepared(PreparedInfo.model_validate_json((folder / META).read_bytes()), folder)


def _build(folder: Path, source: Source, spec: DataSpec) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    damaged = folder.with_name(f"{folder.name}.damaged")
    for left in (partial, damaged):  # of a process that was killed: the lock is ours, so nobody uses them
        if left.exists():
            shutil.rmtree(left)
    partial.mkdir()
    shipped = source.load()
    parts = arrange(spec, source.classes, {split: images.labels for split, images in shipped.items()}, source.groups)
    unfit = _write(partial, "", source.shape, shipped, [parts["train"], parts["validation"]])
    unfit += _write(partial, "test_", source.shape, shipped, [parts["test"]])
    if unfit:
        raise UnfitError(unfit)
    info = planned(spec, source)
    seen = _surveyed(partial, source, parts, spec) if source.names else None
    of, where = parts["test"]
    names = [source.names[of][k] for k in map(int, where)] if source.names else []
    if seen and seen.left_out:
        labels = np.load(partial / "test_labels.npy")
        counts = tuple(np.bincount(labels, minlength=len(source.classes)).tolist())
        info = info.model_copy(update={"n_test": len(labels), "counts_test": counts})
        names = [name for name in names if name not in {one for one, _ in seen.shared}]
    (partial / TEST_NAMES).write_text(json.dumps(names))
    sizes = {"n_train": info.n_train, "n_validation": info.n_validation, "n_test": info.n_test}
    content = json.dumps([*(_sha256(partial / name) for name in ARRAYS), sizes, info.classes])
    mean, std = _statistics(np.load(partial / "images.npy", mmap_mode="r")[: info.n_train])
    digest = hashlib.sha256(content.encode()).hexdigest()
    known = PreparedInfo(**info.model_dump(), digest=digest, mean=mean, std=std, survey=seen)
    (partial / META).write_text(known.model_dump_json(indent=1))
    (partial / SUMS).write_text(_sums(partial))
    if folder.exists():
        folder.rename(damaged)  # processes that have it mapped keep their pages
    partial.rename(folder)
    if damaged.exists():
        shutil.rmtree(damaged)


def _write(
    partial: Path, prefix: str, shape: tuple[int, ...], shipped: Mapping[str, Images], parts: Sequence[Part]
) -> list[Unfit]:
    """Writes images and labels; returns the images that cannot be used: the caller refuses them."""
    unfit: list[Unfit] = []
    n = sum(len(indices) for _, indices in parts)
    header = {"descr": "|u1", "fortran_order": False, "shape": (n, *shape)}
    with (partial / f"{prefix}images.npy").open("wb") as file:  # not a memory map: a full disk must raise, not signal
        np.lib.format.write_array_header_1_0(file, header)
        for split, indices in parts:
            try:
                with closing(shipped[split].stream(indices)) as pieces:
                    for piece in pieces:
                        file.write(np.ascontiguousarray(piece).data)
            except UnfitError as error:
                unfit += error.images
    labels = [shipped[split].labels[indices] for split, indices in parts]
    np.save(partial / f"{prefix}labels.npy", np.concatenate(labels))
    return unfit


def _surveyed(partial: Path, source: Source, parts: Mapping[str, Part], spec: DataSpec) -> Survey:
    """What is seen of the folder's images; test images that are left out are taken from the files."""
    names = {name: [source.names[split][k] for k in map(int, indices)] for name, (split, indices) in parts.items()}
    pixels = np.load(partial / "test_images.npy", mmap_mode="r")
    known = np.load(partial / "images.npy", mmap_mode="r")
    seen = survey(source, [*names["train"], *names["validation"]], names["test"], known, pixels)
    drop = "test" not in source.names if spec.drop_duplicates is None else spec.drop_duplicates
    if not drop or not seen.shared:
        return seen
    again = {name for name, _ in seen.shared}
    kept = np.array([k for k, name in enumerate(names["test"]) if name not in again], np.int64)
    if not len(kept):
        raise InputError(
            f"data.drop_duplicates: all {len(names['test'])} test images are nearly the same as images to train on; "
            "add other images, or set it to false"
        )
    labels = np.load(partial / "test_labels.npy")
    _write(partial, "kept_", source.shape, {"test": Images.of(pixels, labels)}, [("test", kept)])
    for name in ("images.npy", "labels.npy"):
        (partial / f"kept_{name}").replace(partial / f"test_{name}")
    return seen.model_copy(update={"left_out": True})


def _statistics(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of (n, H, W, C), on the scale 0..1, from exact histograms."""
    channels = images.shape[-1]
    histogram = np.zeros((channels, 256), np.int64)
    step = images_at_a_time(images.shape[1:])
    for start in range(0, len(images), step):
        for channel in range(channels):
            histogram[channel] += np.bincount(images[start : start + step, ..., channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    weights = histogram / histogram.sum(axis=1, keepdims=True)
    mean = weights @ levels
    variance = np.maximum(weights @ levels**2 - mean**2, 0)  # rounding can leave a constant channel just below 0
    return tuple(mean.tolist()), tuple(np.maximum(np.sqrt(variance), 1 / 255).tolist())


def _is_intact(folder: Path) -> bool:
    """Whether every file is as it was written; they are read only if one changed since they were last right."""
    try:
        state = _state(folder)  # before they are read: what changes meanwhile is read again the next time
        verified = folder / VERIFIED
        if verified.exists() and verified.read_bytes() == state:
            return True
        if (folder / SUMS).read_bytes() != _sums(folder).encode():
            return False
    except OSError:  # one is gone, or cannot be read
        return False
    with suppress(OSError):  # on a full disk they are read again the next time
        verified.write_bytes(state)
    return True


def _state(folder: Path) -> bytes:
    """Another one after any change of a file. The time is ctime: that of the content (mtime) can be set back."""
    stats = {name: (folder / name).stat() for name in (*ARRAYS, TEST_NAMES, META, SUMS)}
    return json.dumps({name: [s.st_size, s.st_ino, s.st_ctime_ns] for name, s in stats.items()}).encode()


def _sums(folder: Path) -> str:
    """What SHA256SUMS has to be for the files as they are, as `sha256sum --check` reads it."""
    return "".join(f"{_sha256(folder / name)}  {name}\n" for name in (*ARRAYS, TEST_NAMES, META))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
