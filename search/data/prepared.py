"""Prepared data: built once on a machine, whole or not at all, checked, and memory-mapped by all who train.

`check` refuses bad input fast, `prepare` downloads and prepares (the driver), `open_prepared` opens; `on_this_machine`
does what is needed (the workers).

A preparation is a folder with `images.npy` and `labels.npy` (train, then validation), `test_images.npy`,
`test_labels.npy`, `meta.json`, and `SHA256SUMS` of all of these. `verified.json` saves reading them at every start.
"""

import hashlib
import json
import shutil
import socket
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from search.data.folder import DEFAULT_SIZE, folder_source
from search.data.source import Pixels, Source, images_at_a_time, npz_source
from search.data.splits import Arrangement, Part, arrange, planned
from search.data.standard import STANDARD, digits_source, standard_source
from search.errors import InputError, hint
from search.spec import DataInfo, DataSpec, PreparedInfo
from search.storage import paths

FORMAT = 3  # of the folder; part of its name's digest
ARRAYS = ("images.npy", "labels.npy", "test_images.npy", "test_labels.npy")
META, SUMS, VERIFIED = "meta.json", "SHA256SUMS", "verified.json"


def prepared_root() -> Path:
    """Where all preparations of this user and their locks are."""
    return paths.user_cache() / "resnet-search" / "data"


def folder_of(spec: DataSpec, source: Source) -> Path:
    """Where the preparation of `source` lives; a changed raw file or option gives another folder."""
    kind, _, path = spec.name.partition(":")
    slug = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in Path(path).stem or kind)
    key = json.dumps([FORMAT, identity(spec), source.shape, source.identity])
    return prepared_root() / f"{slug}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def identity(spec: DataSpec) -> dict[str, Any]:
    """What of `spec` decides on the arrays: all but the folder in which the raw files were found."""
    return spec.model_dump(exclude={"dir"})


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the lock `path` of this machine; the system frees it when the holder dies.

    Raises:
        InputError: when the cache cannot be written (read-only, full).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield
    except OSError as error:
        raise InputError(
            f"XDG_CACHE_HOME: prepared data cannot be written to {path.parent} ({error.strerror or error}); "
            "point XDG_CACHE_HOME to a folder that is writable and has space"
        ) from error


def ensure(folder: Path, source: Source, spec: DataSpec) -> None:
    """Make `folder` hold an undamaged preparation. The caller holds the folder's lock."""
    state = _verified(folder)
    if state is None:
        _build(folder, source, spec)
        state = _verified(folder)
        if state is None:
            raise InputError(f"data: {folder} reads back differently from what was written; check that disk")
    if _content(folder / VERIFIED) != state:
        (folder / VERIFIED).write_bytes(state)


def is_intact(folder: Path) -> bool:
    """Whether every file is as it was written; they are read only if one changed since they were last right."""
    return _verified(folder) is not None


def read_meta(folder: Path) -> dict[str, Any]:
    """The `meta.json` of a preparation.

    Raises:
        InputError: when it is not as it was written.
    """
    content, sums = _content(folder / META), _content(folder / SUMS)
    if content is None or sums is None or _sum(META, hashlib.sha256(content).hexdigest()) not in sums:
        raise InputError(_damaged(folder / META))
    return json.loads(content)


def open_array(folder: Path, name: str) -> NDArray[Any]:
    """One array of a preparation, memory-mapped copy-on-write: pages are shared between the processes that read them.

    Raises:
        InputError: when the file is gone, or shorter than what was written.
    """
    try:
        return np.lib.format.open_memmap(folder / name, mode="c")
    except (OSError, ValueError):
        raise InputError(_damaged(folder / name)) from None


def _damaged(path: Path) -> str:
    return f"data: {path} is damaged; start the study again, which prepares the data again"


def _build(folder: Path, source: Source, spec: DataSpec) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    damaged = folder.with_name(f"{folder.name}.damaged")
    for left in (partial, damaged):  # of a process that was killed: the lock is ours, so nobody uses them
        if left.exists():
            shutil.rmtree(left)
    partial.mkdir()
    arrangement = arrange(spec, source.load(), len(source.classes))
    _write(partial, "", source.shape, [arrangement.train, arrangement.validation])
    _write(partial, "test_", source.shape, [arrangement.test])
    info = _info(partial, source, spec, arrangement, [_sha256(partial / name) for name in ARRAYS])
    (partial / META).write_text(json.dumps({"spec": identity(spec), "info": info.model_dump()}, indent=1))
    (partial / SUMS).write_bytes(_sums(partial))
    if folder.exists():
        folder.rename(damaged)  # processes that have it mapped keep their pages
    partial.rename(folder)
    if damaged.exists():
        shutil.rmtree(damaged)


def _write(partial: Path, prefix: str, shape: tuple[int, int, int], parts: list[Part]) -> None:
    n = sum(len(indices) for _, indices in parts)
    header = {"descr": "|u1", "fortran_order": False, "shape": (n, *shape)}
    with (partial / f"{prefix}images.npy").open("wb") as file:  # not a memory map: a full disk must raise, not signal
        np.lib.format.write_array_header_1_0(file, header)
        for images, indices in parts:
            with closing(images.stream(indices)) as pieces:
                for piece in pieces:
                    file.write(np.ascontiguousarray(piece).data)
    np.save(partial / f"{prefix}labels.npy", np.concatenate([images.labels[indices] for images, indices in parts]))


def _info(
    partial: Path, source: Source, spec: DataSpec, arrangement: Arrangement, checksums: list[str]
) -> PreparedInfo:
    sizes = {f"n_{split}": len(part[1]) for split, part in vars(arrangement).items()}
    images = np.load(partial / "images.npy", mmap_mode="r")
    mean, std = _statistics(images[: sizes["n_train"]])
    plan = planned(spec, source).model_dump()
    digest = hashlib.sha256(json.dumps([*checksums, sizes, plan["classes"]]).encode()).hexdigest()
    return PreparedInfo.model_validate({**plan, **sizes, "digest": digest, "mean": mean, "std": std})


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


def _verified(folder: Path) -> bytes | None:
    """The state of the files, all of them as they were written; None where one is not."""
    try:
        state = _state(folder)  # before they are read: what changes meanwhile is read again the next time
        if state == _content(folder / VERIFIED) or _sums(folder) == _content(folder / SUMS):
            return state
    except OSError:  # one is gone, or cannot be read
        pass
    return None


def _state(folder: Path) -> bytes:
    """Another one after any change of a file. The time is ctime: that of the content (mtime) can be set back."""
    stats = {name: (folder / name).stat() for name in (*ARRAYS, META, SUMS)}
    return json.dumps({name: [s.st_size, s.st_ino, s.st_ctime_ns] for name, s in stats.items()}).encode()


def _content(path: Path) -> bytes | None:
    """Of a regular file that can be read."""
    return None if paths.fault(path) else path.read_bytes()


def _sums(folder: Path) -> bytes:
    """What SHA256SUMS has to be for the files as they are."""
    return b"".join(_sum(name, _sha256(folder / name)) for name in (*ARRAYS, META))


def _sum(name: str, checksum: str) -> bytes:
    """A line as `sha256sum --check` reads it."""
    return f"{checksum}  {name}\n".encode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
            InputError: here and in the other two, when a file of the split is gone or too short.
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

    def _split(self, prefix: str, part: slice) -> Split:
        images = open_array(self.folder, f"{prefix}images.npy")
        labels = open_array(self.folder, f"{prefix}labels.npy")
        return Split(images[part], labels[part])


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
    source = _find(spec)
    planned(spec, source)
    if source.download is not None:
        with locked(prepared_root() / f"download-{spec.name}.lock"):
            source = _find(spec)  # another process may have downloaded it while this one waited
            if source.download is not None:
                source.download()
                source = _find(spec)
    folder = folder_of(spec, source)
    with locked(folder.with_name(f"{folder.name}.lock")):
        ensure(folder, source, spec)
    return open_prepared(folder, spec)


def open_prepared(folder: Path, spec: DataSpec) -> Prepared:
    """Open what `prepare(spec)` left in `folder`, without preparing or downloading.

    Raises:
        InputError: when it is not there, or was prepared from another specification.
    """
    if not (folder / META).exists():
        raise InputError(f"data: {spec.name} is not prepared in {folder}; start the study again on this machine")
    meta = read_meta(folder)
    if meta["spec"] != identity(spec):
        raise InputError(f"data: {folder} was prepared for other settings of {meta['info']['name']}; prepare it again")
    return Prepared(PreparedInfo.model_validate(meta["info"]), folder)


def on_this_machine(folder: Path, spec: DataSpec, digest: str) -> Prepared:
    """What the driver prepared in `folder`, or, on a machine that does not have it whole, prepared here from raw files.

    Raises:
        InputError: as `open_prepared` and `prepare` do; also when the data are not those with the driver's `digest`.
    """
    prepared = open_prepared(folder, spec) if is_intact(folder) else prepare(spec)
    if prepared.info.digest != digest:
        raise InputError(
            f"data: {spec.name} on {socket.gethostname()} is not what the study began with (digest "
            f"{prepared.info.digest[:12]}, not {digest[:12]}); give every machine the same files, such as by one "
            "--data-dir that they share"
        )
    return prepared


def _find(spec: DataSpec) -> Source:
    try:
        return _source(spec)
    except OSError as error:
        raise InputError(
            f"data: {error.filename} cannot be read ({error.strerror}); give access to it, or name other data"
        ) from error


def _source(spec: DataSpec) -> Source:
    kind, _, path = spec.name.partition(":")
    if spec.image_size is not None and kind != "imagefolder":
        raise InputError(f"data.image_size = {spec.image_size} has no effect on {spec.name!r}; leave it out")
    if kind in ("imagefolder", "npz") and not path:
        raise InputError(f"data.name = {spec.name!r} has no path; write {kind}:PATH")
    if kind == "imagefolder":
        return folder_source(paths.resolved(path, "data.name"), spec.image_size or DEFAULT_SIZE)
    if kind == "npz":
        return npz_source(paths.resolved(path, "data.name"))
    if spec.name == "digits":
        return digits_source()
    if spec.name in STANDARD:
        return standard_source(spec)
    raise InputError(f"data.name = {spec.name!r} is no known data set; {hint(spec.name.lower(), NAMES)}")
