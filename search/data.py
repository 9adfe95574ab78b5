"""Data sets as uint8 arrays on disk: prepared once per machine, split, and memory-mapped by every process that trains.

`check` refuses bad input fast, `prepare` downloads and prepares (the driver), `open_prepared` opens; `on_this_machine`
does what is needed (the workers).
"""

import socket
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search import data_cache
from search.data_folder import DEFAULT_SIZE, folder_source
from search.data_npz import npz_source
from search.data_plan import planned
from search.data_source import Pixels, Source
from search.data_spec import DataInfo, DataSpec, PreparedInfo
from search.data_standard import STANDARD, digits_source, standard_source
from search.errors import InputError, hint
from search.paths import resolved

__all__ = [
    "DataInfo",
    "DataSpec",
    "Prepared",
    "PreparedInfo",
    "Split",
    "check",
    "on_this_machine",
    "open_prepared",
    "prepare",
]

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
            InputError: here and in the other two, when a file of the split is gone or has another size.
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
        images = data_cache.open_array(self.folder, f"{prefix}images.npy")
        labels = data_cache.open_array(self.folder, f"{prefix}labels.npy")
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
        with data_cache.locked(data_cache.prepared_root() / f"download-{spec.name}.lock"):
            source = _find(spec)  # another process may have downloaded it while this one waited
            if source.download is not None:
                source.download()
                source = _find(spec)
    folder = data_cache.folder_of(spec, source)
    with data_cache.locked(folder.with_name(f"{folder.name}.lock")):
        data_cache.ensure(folder, source, spec)
    return open_prepared(folder, spec)


def open_prepared(folder: Path, spec: DataSpec) -> Prepared:
    """Open what `prepare(spec)` left in `folder`, without preparing or downloading.

    Raises:
        InputError: when it is not there, or was prepared from another specification.
    """
    if not (folder / data_cache.META).exists():
        raise InputError(f"data: {spec.name} is not prepared in {folder}; start the study again on this machine")
    meta = data_cache.read_meta(folder)
    if meta["spec"] != data_cache.identity(spec):
        raise InputError(f"data: {folder} was prepared for other settings of {meta['info']['name']}; prepare it again")
    return Prepared(PreparedInfo.model_validate(meta["info"]), folder)


def on_this_machine(folder: Path, spec: DataSpec, digest: str) -> Prepared:
    """What the driver prepared in `folder`, or, on a machine that does not have it whole, prepared here from raw files.

    Raises:
        InputError: as `open_prepared` and `prepare` do; also when the data are not those with the driver's `digest`.
    """
    prepared = open_prepared(folder, spec) if data_cache.is_intact(folder) else prepare(spec)
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
        return folder_source(resolved(path, "data.name"), spec.image_size or DEFAULT_SIZE)
    if kind == "npz":
        return npz_source(resolved(path, "data.name"))
    if spec.name == "digits":
        return digits_source()
    if spec.name in STANDARD:
        return standard_source(spec)
    raise InputError(f"data.name = {spec.name!r} is no known data set; {hint(spec.name.lower(), NAMES)}")
