"""The champion of a study, exported into its folder as soon as its finals are over."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from search import export_folder
from search.data import Prepared
from search.export_folder import CONFIG
from search.export_source import Chosen, weighed, winner
from search.records import Finals
from search.study_folder import StudyFolder
from search.study_spec import StudySpec

FOLDER = "champion"


def crown(spec: StudySpec, data: Prepared, folder: StudyFolder, finals: Finals, runs: Callable[[int], str]) -> str:
    """Exports the champion, unless it is there; its folder, or for a study at a URL the archive of it there.

    Args:
        spec, data, folder: of the study.
        finals: that have a champion.
        runs: number of a training of the finals -> path or URL of its checkpoints' folder.

    Raises:
        InputError: its checkpoint is gone or damaged; something else is in the place of the folder.
        NotTheSame: ONNX or torch.export's program gives other logits than the network.
        OSError, Halted: the disk is full or cannot be written; the URL does not answer.
    """
    chosen = winner(spec, finals, runs)
    place = folder.path / FOLDER
    if not _is_of(place, chosen):
        with weighed(chosen, data) as model:
            export_folder.renew(place, model)
    if folder.url is None:
        return str(place)
    archive = Path(shutil.make_archive(str(place), "zip", place))
    return folder.kept(archive)[0]


def is_exported(spec: StudySpec, folder: StudyFolder, finals: Finals, runs: Callable[[int], str]) -> bool:
    """Whether `crown` has nothing to do; the arguments are those of `crown`."""
    place = folder.path / FOLDER
    archived = folder.url is None or place.with_suffix(".zip").exists()  # a start fetches what is at the URL, no more
    return archived and _is_of(place, winner(spec, finals, runs))


def _is_of(place: Path, chosen: Chosen) -> bool:
    """Whether an exported folder is whole and of this training, with the same test errors by seed."""
    if not export_folder.is_whole(place):
        return False
    about = json.loads((place / CONFIG).read_text(encoding="utf-8"))["about"]
    tested = {int(seed): error for seed, error in about["test_error_by_seed"].items()}
    return (about["training"], tested) == (chosen.facts.training, dict(chosen.facts.tested))
