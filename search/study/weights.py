"""The weights that trials start from: found once, before the first trial, and kept in the study's folder."""

import http.client
import io
import pickle
import socket
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
from optuna.distributions import CategoricalDistribution
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save
from torch import Tensor

from resnet import NetSpec, blueprint, blueprints, create_model, load, load_torchvision, misfit, name_of
from search.errors import InputError, first_line
from search.export import CHAMPION
from search.spec import Appraisal, DataInfo, Space, StudySpec, TrainSpec, TrialSpec
from search.storage import Output, paths, replica, scratch
from search.study.request import spec_of

START, STUDY = "train.start", "study:"
TORCHVISION = tuple(f"resnet{depth}" for depth in (18, 34, 50, 101, 152))
COMBINATIONS, BUILT = 20_000, 200  # of the space, and networks, that are looked at before the first trial
PATIENCE = 20.0  # seconds for which a server may say nothing
HEAD = ("fc.weight", "fc.bias")
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Kept:
    """A file of weights in the study's folder."""

    start: str  # the value of `train.start` that it stands for
    blueprint: str  # of the network that it is of: `resnet.blueprint`
    sha256: str
    source: str  # in words


@dataclass(frozen=True)
class Weights:
    """All that the trials of a study start from, but for drawn weights."""

    kept: tuple[Kept, ...] = ()
    missing: str | None = None  # what could not be had, in a sentence

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """As `stored` has them."""
        return cls(tuple(Kept(**one) for one in stored.get("kept", ())), stored.get("missing"))

    @property
    def stored(self) -> dict[str, Any]:
        """As they are written into the study's records."""
        return asdict(self)

    def of_trial(self, trial: TrialSpec) -> Kept | None:
        """What a trial starts from; None where its weights are drawn, or none are of its network."""
        start = trial.train.start
        return next((k for k in self.kept if k.start == start and k.blueprint in blueprints(trial.net)), None)

    def appraised(self, trial: TrialSpec, found: Appraisal) -> Appraisal:
        """What a trial would cost, which is refused where there are no weights of its network to start from."""
        start = trial.train.start
        if start == TrainSpec.SCRATCH or self.of_trial(trial) is not None:
            return found
        return found.refused("start", 1.0, f"{START} = {start} has no weights of this network")

    def narrowed(self, space: Space) -> Space:
        """The space without `imagenet` where there are no such weights."""
        if self.missing is None or any(one.start == TrainSpec.IMAGENET for one in self.kept):
            return space
        start = next(d for d in space.dimensions if d.path == START)
        left = [choice for choice in start.extremes if choice != TrainSpec.IMAGENET]
        narrow = replace(start, distribution=CategoricalDistribution(left))
        return Space(tuple(narrow if d is start else d for d in space.dimensions), space.fixed)


def find(spec: StudySpec, info: DataInfo, space: Space, output: Output, keep: Callable[[bytes], str]) -> Weights:
    """Finds all weights that the trials of a study may start from, and keeps them.

    Args:
        spec, info, space: of the study, its data, and what it searches on them.
        output: where studies are kept.
        keep: puts a file into the study's folder; returns its SHA-256.

    Raises:
        InputError: weights are not there, cannot be read, or are of no network of the space.
        Halted: the URL does not answer.
    """
    kept: list[Kept] = []
    missing: str | None = None
    for start, networks in _networks(spec, info, space).items():
        if start == TrainSpec.IMAGENET:
            files, missing = _imagenet(networks, spec, space)
        else:
            files = iter([_given(start, output, info.classes)])
        for source, tensors in files:
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            if start != TrainSpec.IMAGENET:
                _check_fits(start, shapes, networks, every=bool(spec.compare))
            data = save({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()})
            kept.append(Kept(start, blueprint(shapes), keep(data), source))
    return Weights(tuple(kept), missing)


def _networks(spec: StudySpec, info: DataInfo, space: Space) -> dict[str, list[NetSpec]]:
    """Value of `train.start` -> different networks that may begin with it; without scratch."""
    found: dict[str, dict[NetSpec, None]] = {}
    for trial in _trials(spec, info, space):
        if trial.train.start != TrainSpec.SCRATCH:
            found.setdefault(trial.train.start, {})[trial.net] = None
    return {start: list(networks) for start, networks in found.items()}


def _trials(spec: StudySpec, info: DataInfo, space: Space) -> Iterator[TrialSpec]:
    """Trials with all networks and starts that go together: the rows that are compared, or what is searched."""
    if spec.compare:
        yield from (row.trial for row in spec.rows(info.shape, len(info.classes)))
        return
    part = space.networks(START)
    if START in part.searched or START in space.fixed:
        yield from map(TrialSpec.from_flat, islice(part.combinations(values=False), COMBINATIONS))


def _check_fits(start: str, shapes: Mapping[str, tuple[int, ...]], networks: Sequence[NetSpec], *, every: bool) -> None:
    """Refuses weights that fit none of these networks; with `every`, weights that do not fit all of them."""
    if len(networks) > BUILT:
        return  # the search finds out
    faults: list[tuple[NetSpec, str]] = []
    for net in networks:
        if fault := misfit(net, shapes):
            faults.append((net, fault))
        elif not every:
            return
    if faults:
        net, fault = faults[0]
        raise InputError(
            f"{START} = {start!r} {_fits(every)} (depth {net.depth}, version {net.version}, width {net.width:g}: "
            f"{fault}); allow the network that the weights are of, or leave it out"
        )


def _fits(every: bool) -> str:
    return "does not fit every row of compare" if every else "fits no network of the space"


def _imagenet(
    networks: Sequence[NetSpec], spec: StudySpec, space: Space
) -> tuple[Iterator[tuple[str, Tensors]], str | None]:
    """Source and weights of those of these networks that torchvision has, and what of them could not be had.

    Raises:
        InputError: torchvision has none of the networks, or there is nothing to search without these weights.
    """
    from torchvision.models import get_model_weights  # noqa: PLC0415  takes seconds, for this alone

    names = [name for name in TORCHVISION if name in {name_of(net) for net in networks}]
    if not names or (spec.compare and len(names) < len({name_of(net) for net in networks})):
        raise InputError(
            f"{START} = {TrainSpec.IMAGENET!r} {_fits(bool(spec.compare))}: torchvision has weights for net.family "
            "imagenet, version v1, shortcut identity, width 1 and depth 18, 34, 50, 101, 152; allow one of these "
            "networks, or leave it out"
        )
    found, lacking, cause = list[tuple[str, Path]](), list[str](), ""
    for name in names:
        weights = get_model_weights(name).DEFAULT  # pyright: ignore[reportAttributeAccessIssue] - an enumeration
        file = weights.url.rpartition("/")[2]
        path = _local(file, spec.weights_dir)
        if path is None and not cause:
            try:
                path = _fetched(weights.url, file)
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                cause = str(getattr(error, "reason", error))  # of a URLError
        if path is None:
            lacking.append(file)
        else:
            found.append((name, path))
    if not lacking:
        return map(_of_torchvision, found), None
    why = f"{', '.join(lacking)} cannot be fetched ({cause})"
    others = {c for d in space.dimensions if d.path == START for c in d.extremes} - {TrainSpec.IMAGENET}
    if spec.compare or not (found or others):
        raise InputError(f"{START} = {TrainSpec.IMAGENET!r}: {why}; name a folder that has them with --weights-dir")
    so = "these networks start without them" if found else "no trial starts from ImageNet weights"
    return map(_of_torchvision, found), f"{why}, so {so}; to begin again with them: --fresh --weights-dir DIR"


def _local(file: str, folder: str | None) -> Path | None:
    """A file of torchvision's in the folder that the study names, or in torch's cache."""
    places = [Path(torch.hub.get_dir()) / "checkpoints"]
    if folder is not None:
        places.insert(0, paths.expanded(folder, "weights_dir"))
        if not places[0].is_dir():
            raise InputError(f"weights_dir = {folder!r} is no folder; name one that has {file}, or leave it out")
    return next((place / file for place in places if (place / file).is_file()), None)


def _fetched(url: str, file: str) -> Path:
    """The file, downloaded into torch's cache once the hash in its name is its own."""
    place, before = Path(torch.hub.get_dir()) / "checkpoints" / file, socket.getdefaulttimeout()
    place.parent.mkdir(parents=True, exist_ok=True)
    socket.setdefaulttimeout(PATIENCE)
    try:
        torch.hub.download_url_to_file(url, str(place), place.stem.rpartition("-")[2], progress=False)
    finally:
        socket.setdefaulttimeout(before)
    return place


def _of_torchvision(named: tuple[str, Path]) -> tuple[str, Tensors]:
    name, path = named
    tensors = _tensors(path, TrainSpec.IMAGENET)
    with torch.device("meta"):
        model = create_model(name)
    try:
        load_torchvision(model, tensors)
    except ValueError as error:
        raise InputError(f"{START} = {TrainSpec.IMAGENET!r}: {path} is not of {name} ({error}); delete it") from None
    return f"torchvision {path.name}", tensors


def _given(start: str, output: Output, classes: Sequence[str]) -> tuple[str, Tensors]:
    """Source and weights of a study's champion, an exported network, or a file."""
    if start.startswith(STUDY):
        return _champion(start, output, classes)
    path = paths.expanded(start, START)
    if path.is_dir():
        return f"network in {path.name}", _exported(start, path, classes)
    return path.name, _tensors(path, start)


def _champion(start: str, output: Output, classes: Sequence[str]) -> tuple[str, Tensors]:
    name = start.removeprefix(STUDY)
    try:
        spec_of(output, name)
    except InputError as fault:
        raise InputError(f"{START} = {start!r}: {fault}") from None
    source, folder = f"champion of study {name}", output.path / name / CHAMPION
    if output.url is None and folder.is_dir():
        return source, _exported(start, folder, classes)
    archive = replica.read(output.place(name), f"{CHAMPION}.zip") if output.url else None
    if archive is None:
        raise InputError(f"{START} = {start!r}: the study has no champion; run it to its end, or name another")
    with scratch.folder() as here:
        zipfile.ZipFile(io.BytesIO(archive)).extractall(here)
        return source, _exported(start, here, classes)


def _exported(start: str, folder: Path, classes: Sequence[str]) -> Tensors:
    """The weights of an exported network; without its head where it names other classes."""
    try:
        found = load(folder)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{START} = {start!r}: {error}") from None
    same = found.classes == tuple(classes)
    return {name: tensor for name, tensor in found.net.state_dict().items() if same or name not in HEAD}


def _tensors(path: Path, start: str) -> Tensors:
    """The tensors in a file by name. Nothing in it is run."""
    where = f"{START} = {start!r}" + ("" if str(path) == start else f": {path}")
    if fault := paths.fault(path):
        near = (
            f"; give {TrainSpec.SCRATCH}, {TrainSpec.IMAGENET}, {STUDY}NAME, an exported network or a file of weights"
        )
        raise InputError(f"{where} {fault}{near}")
    try:
        match path.suffix:
            case ".safetensors":
                found: Any = load_safetensors(path.read_bytes())
            case ".pth" | ".pt":
                found = torch.load(path, map_location="cpu", weights_only=True)
            case _:
                raise InputError(f"{where} is no file of weights; give one that ends in .safetensors, .pth or .pt")
    except pickle.UnpicklingError:
        raise InputError(
            f"{where} holds more than tensors, which is never run, or is damaged; write model.state_dict() alone, best "
            "with safetensors.torch.save_file"
        ) from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{where} is damaged ({first_line(error)}); write it again, or give another file") from None
    if not isinstance(found, Mapping) or not all(isinstance(tensor, Tensor) for tensor in found.values()) or not found:
        raise InputError(f"{where} holds no state_dict; write model.state_dict() alone into it")
    return found
