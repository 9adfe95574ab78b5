"""The network that a study exports: which one, and its folder, written whole or not at all."""

import glob
import hashlib
import io
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from safetensors.torch import load as load_weights

from resnet import build
from resnet.classifier import CONFIG, WEIGHTS, Scaled
from search import training
from search.data import Prepared
from search.errors import InputError
from search.export import graphs
from search.export.card import card
from search.export.trained import Exportable, Facts
from search.machine import versions
from search.records import Finals, StudyFolder, TrialRecord, Trials, TrialState
from search.spec import StudySpec, TrialSpec
from search.storage import files, local_copy

CHAMPION = "champion"  # the folder of the finals' own, in that of the study
CARD, ONNX, EXAMPLES = "README.md", "model.onnx", "examples.npy"
CHECKED = CONFIG, WEIGHTS, ONNX  # against SHA256SUMS; the card and the images are the user's to change or remove
FILES = {*CHECKED, files.SUMS, CARD, EXAMPLES}
SHOWN = 4  # real images in the folder, to try it with
COMPARED = 256  # real images on which the graph must give the network's logits


def export(folder: Path, model: Exportable, *, replace: bool = False) -> None:
    """Writes the folder: weights, description, model card, four images, and ONNX where that is installed.

    The graph is compared, on images of the validation split, with the network as `resnet` builds it.

    Args:
        folder: new or empty.
        model: what is exported.
        replace: an earlier export may be there, and stays until the new one is whole. `mend` finishes what a kill
            between the two renames leaves. It is for one process at a time.

    Raises:
        InputError: the folder has something in it that may not be replaced, or is a file.
        NotTheSame: the graph gives other logits; nothing is written.
        OSError: the disk is full or cannot be written; the folder is as before.
    """
    check = _check_own if replace else check_free
    check(folder)
    folder = folder.absolute()
    contents = _contents(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    mend(folder)
    partial = _hidden(folder, "partial")
    try:
        files.fill(partial, contents)
        check(folder)  # again: this took a while
        if replace and folder.exists():
            folder.rename(_hidden(folder, "old"))
        partial.rename(folder)  # in place of an empty one, too
    finally:
        mend(folder)
    files.sync(folder.parent)


def mend(folder: Path) -> None:
    """Removes what a process that died in `export` left; the earlier export comes back where the new one is missing."""
    hidden = f".{glob.escape(folder.name)}.*."
    earlier, partial = (sorted(folder.parent.glob(hidden + ending)) for ending in ("old", "partial"))
    if earlier and not folder.exists():
        earlier.pop().rename(folder)
    for left in (*earlier, *partial):
        if not _foreign(left):
            shutil.rmtree(left)


def is_whole(folder: Path) -> bool:
    """Whether an export is there, with ONNX where that is installed, and what is read of it is as it was written."""
    names = [name for name in CHECKED if name != ONNX or graphs.installed() or (folder / ONNX).exists()]
    try:
        found = {name: (folder / name).read_bytes() for name in names}
        return (folder / files.SUMS).read_bytes() == files.checksums(found)
    except OSError:  # what cannot be read is of no use to anybody
        return False


def lacks(folder: Path) -> str:
    """What an export does without, as the end of a sentence; nothing where it was written with ONNX."""
    if (folder / ONNX).exists():
        return ""
    return f" (without {ONNX}, which MLflow's registry needs: pip install 'resnet-search[export]')"


def check_free(folder: Path) -> None:
    """Refuses a place where something is.

    Raises:
        InputError: the folder has something in it, or is a file.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        kind = "has something in it" if folder.is_dir() else "is a file"
        raise InputError(f"--to = {str(folder)!r} {kind}; name a folder that is new or empty")


def _check_own(folder: Path) -> None:
    if foreign := _foreign(folder):
        listed = ", ".join(map(str, foreign[:3])) + (" and more" if len(foreign) > 3 else "")
        raise InputError(f"no export has written {listed}, which a new one would replace; move it away")


def _foreign(folder: Path) -> list[Path]:
    """What is in the place of an export and was not written by one, so that it must not be deleted."""
    if folder.is_symlink() or folder.is_file():
        return [folder]
    found = folder.iterdir() if folder.exists() else []
    return sorted(p for p in found if p.name not in FILES or (p.is_dir() and not p.is_symlink()))


def _hidden(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.{ending}")


def _contents(model: Exportable) -> dict[str, bytes]:
    weights = model.weights.read_bytes()
    config = model.config(hashlib.sha256(weights).hexdigest())
    net = build(config.net)
    net.load_state_dict(load_weights(weights))
    network = Scaled(net, config.mean, config.std).eval()
    images = model.images(COMPARED)
    logits = graphs.run_network(network, images)
    checked = {CONFIG: config.model_dump_json(indent=2).encode() + b"\n", WEIGHTS: weights}
    apart = None
    if graphs.installed():
        checked[ONNX] = graphs.onnx(network, config.image.shape, config.classes)
        apart = graphs.check("the ONNX model", logits, graphs.run_onnx(checked[ONNX], images))
    examples = io.BytesIO()
    np.save(examples, images[:SHOWN])
    answers = [config.classes[k] for k in logits[:SHOWN].argmax(1).tolist()]
    text = card(model, config, answers, apart, len(images))
    return checked | {CARD: text.encode(), EXAMPLES: examples.getvalue(), files.SUMS: files.checksums(checked)}


@dataclass(frozen=True)
class Chosen:
    """A training whose weights are exported."""

    spec: TrialSpec
    facts: Facts
    checkpoints: str  # their folder or URL

    @contextmanager
    def loaded(self, data: Prepared) -> Iterator[Exportable]:
        """The network, with its weights on this machine's disk while it is entered.

        Raises:
            InputError: its checkpoint is gone or damaged.
            Halted: the URL does not answer.
        """
        newest = training.latest(self.checkpoints)  # which also compares all checksums
        epochs = self.facts.epochs
        where = training.validated_weights(self.checkpoints, epochs)
        if newest is None or where is None or newest.state.epoch != epochs:
            missing = f"{self.facts.training} has no whole checkpoint of epoch {epochs} in {self.checkpoints}"
            raise InputError(f"{missing}; restore it from a copy")
        with local_copy(where) as weights:
            yield Exportable(self.spec, Path(weights), data, self.facts)


def chosen(
    spec: StudySpec,
    data: Prepared,
    folder: StudyFolder,
    records: Sequence[TrialRecord],
    finals: Finals | None,
    number: int | None,
) -> Chosen:
    """Trial `number`, else the champion of the finals, else the best complete trial.

    Raises:
        InputError: there is no such trial, it has no result, or none is complete.
    """
    if number is None:
        if found := champion(spec, folder, finals):
            return found
        complete = Trials(r for r in records if r.state is TrialState.COMPLETE)
        record, reason = complete.best, f"the lowest validation error of {len(complete)} complete trials"
        if record is None:
            raise InputError(f"study {spec.name!r} has no complete trial, hence no champion; run it to its end")
    else:
        record, reason = next((r for r in records if r.number == number), None), "which was asked for"
        if record is None:
            raise InputError(f"--trial = {number} is none of study {spec.name!r}, which has {len(records)}, from 0")
        if not record.ranked:
            told = f"--trial = {number} of study {spec.name!r} is {record.state}, without a network; name another"
            raise InputError(told)
    facts = Facts(
        study=spec.name,
        description=spec.description,
        training=f"trial {record.number}",
        chosen=reason,
        trained_on=data.info.n_train,
        epochs=record.epochs,
        val_error=record.measured,
        measure=spec.search.measure,
        versions=_versions(),
    )
    return Chosen(TrialSpec.from_flat(record.params), facts, f"{folder.trials}/{record.number:04d}")


def champion(spec: StudySpec, folder: StudyFolder, finals: Finals | None) -> Chosen | None:
    """The run of the finals whose weights stand for their champion; None where there is none."""
    if finals is None or (finalist := finals.champion) is None:
        return None
    run = next(r for r in finalist.runs if r.number == finals.champion_run)
    flat = {**finalist.params, "train.seed": run.seed, "train.epochs": finals.epochs}
    facts = Facts(
        study=spec.name,
        description=spec.description,
        training=f"{finalist.label or f'trial {finalist.number}'}, seed {run.seed}",
        chosen=f"the one of median test error, of the best of {len(finals.finalists)} finalists by mean test error",
        trained_on=finals.trained_on,
        epochs=run.epochs,
        tested={r.seed: r.test_error for r in finalist.runs if r.test_error is not None},
        level=finals.level,
        measure=finals.measure,
        versions=_versions(),
    )
    return Chosen(TrialSpec.from_flat(flat), facts, f"{folder.finals}/{run.number:04d}")


def _versions() -> dict[str, str]:
    named = versions()
    onnx = {"onnx": version("onnx")} if graphs.installed() else {}
    return {name: named[name] for name in ("python", "torch")} | onnx


def export_champion(chosen: Chosen, data: Prepared, folder: StudyFolder) -> str:
    """Exports the champion, unless it is there; its folder, or for a study at a URL the archive of it there.

    Raises:
        InputError: its checkpoint is gone or damaged; something else is in the place of the folder.
        NotTheSame: ONNX gives other logits than the network.
        OSError, Halted: the disk is full or cannot be written; the URL does not answer.
    """
    place = folder.path / CHAMPION
    if not _is_of(place, chosen):
        with chosen.loaded(data) as model:
            export(place, model, replace=True)
    if folder.url is None:
        return str(place)
    archive = Path(shutil.make_archive(str(place), "zip", place))
    folder.forced(archive)
    return f"{folder.url}/{archive.name}"


def is_exported(chosen: Chosen, folder: StudyFolder) -> bool:
    """Whether `export_champion` has nothing to do."""
    place = folder.path / CHAMPION
    archived = folder.url is None or place.with_suffix(".zip").exists()  # a start fetches what is at the URL, no more
    return archived and _is_of(place, chosen)


def _is_of(place: Path, chosen: Chosen) -> bool:
    """Whether an exported folder is whole and of this training, with the same test errors by seed."""
    if not is_whole(place):
        return False
    about = json.loads((place / CONFIG).read_text(encoding="utf-8"))["about"]
    tested = {int(seed): error for seed, error in about["test_error_by_seed"].items()}
    return (about["training"], tested) == (chosen.facts.training, dict(chosen.facts.tested))
