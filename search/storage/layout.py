"""What the service writes in a study's folder, by name: only that is read, and only that is ever deleted."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

STUDY_FILE = "study.yaml"
ID_FILE = "study.id"  # written first, and never deleted: it says that a study is here, and which
JOURNAL = "optuna.journal"
WEIGHTS = "weights"  # folder of what trials start from, each file named by its SHA-256
OUTBOX = "outbox.jsonl"  # of older versions: it is known as theirs, and deleted

_TRIALS = r"(?:trials|finals)"
_EPOCH = rf"{_TRIALS}/\d{{4,}}/(?:epoch-\d{{6}}(?:-[0-9a-f]{{8}})?(?:\.damaged)?|\.epoch-\d{{6}}-[0-9a-f]{{32}}\.part)"
_CHAMPION = r"(?:champion|\.champion\.[0-9a-f]{32}\.(?:partial|old))"
_HIDDEN = r"\.lock|\.holder|\.[a-z][a-z0-9.-]*\.\d+\.tmp"
_RECORD = r"outbox\.jsonl|mlflow\.json|key|study\.(?:yaml|id)|report\.(?:json|md|html)|champion\.zip"
_PIECE = r"optuna\.journal/\d{12}-\d{12}"  # of the journal at a URL
_FILE = "|".join(
    (
        *(_RECORD, _HIDDEN, _PIECE),
        r"outbox\.cursor\.(?:json|partial)|mlflow\.partial|optuna\.journal(?:\.lock.*)?",
        rf"{_CHAMPION}/(?:SHA256SUMS|README\.md|config\.json|model\.(?:safetensors|onnx)|examples\.npy)",
        r"weights/[0-9a-f]{64}\.safetensors",
        rf"{_EPOCH}/.+",  # a checkpoint is one thing, and goes as such when there are newer ones
    )
)
_FOLDER = rf"{_TRIALS}(?:/\d{{4,}})?|{_EPOCH}(?:/.+)?|{_CHAMPION}|{WEIGHTS}"
_KEPT = {STUDY_FILE, ID_FILE, ".lock", ".holder"}  # by `delete`


def older(place: str) -> str:
    """That the study in `place` is of an older version, in a sentence."""
    return (
        f"{place} holds a study of an older version, which this one cannot continue; use another --name, or begin it "
        "again with --fresh"
    )


def is_reserved(name: str) -> bool:
    """Whether the output folder has a use of its own for this name, whatever the case of its letters."""
    return re.fullmatch(r"mlartifacts|mlflow\.db.*", name.lower()) is not None


def is_own(file: str) -> bool:
    """Whether the service writes a file of this name, relative to the study's folder or URL."""
    return re.fullmatch(_FILE, file) is not None


def is_record(file: str) -> bool:
    """Whether a name at a study's URL is that of a record other than the journal: each machine has a copy of it."""
    return re.fullmatch(_RECORD, file) is not None


def is_piece(file: str) -> bool:
    """Whether a name at a study's URL is that of a piece of the journal."""
    return re.fullmatch(_PIECE, file) is not None


def stranger(names: Iterable[str]) -> str | None:
    """Of the names in a folder, or at a URL, where there is no study: the first that forbids to begin one there.

    None where there is a study, or nothing but what a start leaves that was ended at once.
    """
    found = sorted(names)
    if ID_FILE in found or (STUDY_FILE in found and any(name.startswith((JOURNAL, OUTBOX)) for name in found)):
        return None
    return next((name for name in found if name != STUDY_FILE and re.fullmatch(_HIDDEN, name) is None), None)


def names_in(folder: Path) -> list[str]:
    """Of a local folder, for `stranger`; without places prepared for checkpoints: links, mounted disks, empty folders.

    Nothing where there is no folder.
    """
    if not folder.is_dir():
        return []
    return [p.name for p in folder.iterdir() if not (re.fullmatch(_TRIALS, p.name) and _is_prepared(p))]


def _is_prepared(place: Path) -> bool:
    return place.is_symlink() or (place.is_dir() and (place.is_mount() or not any(place.iterdir())))


def checkpoint_places(folder: Path) -> list[Path]:
    """The folders of checkpoints in a study's folder, or links to them."""
    return sorted(place for place in folder.iterdir() if re.fullmatch(_TRIALS, place.name))


def holds_checkpoints(place: Path) -> bool:
    """Whether a folder of checkpoints has one of any trial."""
    return any(re.fullmatch(_EPOCH, f"trials/{found.relative_to(place).as_posix()}") for found in place.glob("*/*"))


def in_order(names: Iterable[str]) -> list[str]:
    """Own files in the order in which they may be deleted.

    Checkpoints go first and the records of the trials last, so that what is left, should this be cut short, is never
    taken for the state of another trial.
    """
    first = ("trials", "finals", "outbox", "mlflow", "key", "")
    rank = {
        name: (name.startswith(JOURNAL), next(k for k, start in enumerate(first) if name.startswith(start)))
        for name in names
        if name not in _KEPT
    }
    return sorted(rank, key=lambda name: (rank[name], name))


def delete(folder: Path) -> list[Path]:
    """Deletes a study's own files, but for those that say which it is; returns what stays, for it is not the study's.

    The folders of checkpoints may be links to another disk: the study's checkpoints there are deleted, the links stay.
    No other link is followed: one in the place of something of the study's is deleted, and what it leads to stays.
    """
    files: list[str] = []
    folders: list[Path] = []
    stays: list[Path] = []

    def look(place: Path, below: str) -> None:
        for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
            name, path, linked = f"{below}{entry.name}", Path(entry.path), entry.is_symlink()
            if re.fullmatch(_TRIALS, name) and linked and entry.is_dir():
                look(path, f"{name}/")
            elif re.fullmatch(_FOLDER, name) and entry.is_dir(follow_symlinks=False):
                look(path, f"{name}/")
                folders.append(path)  # after what is in it
            elif linked and re.fullmatch(_FOLDER, name):
                files.append(name)
                stays.append(path.resolve())
            elif is_own(name) and not entry.is_dir(follow_symlinks=False):
                files.append(name)
            else:
                stays.append(path)

    look(folder, "")
    for name in in_order(files):
        (folder / name).unlink(missing_ok=True)
    for path in folders:
        if not path.is_mount() and not any(path.iterdir()):
            path.rmdir()
    return stays
