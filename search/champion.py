"""The champion of a study, exported into its folder as soon as its finals are over."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from search.data import Prepared
from search.export_folder import CONFIG, export
from search.export_source import weighed, winner
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
        NotTheSame: ONNX or torch.export's program gives other logits than the network.
        OSError, Halted: the disk is full or cannot be written; the URL does not answer.
    """
    chosen = winner(spec, finals, runs)
    place = folder.path / FOLDER
    if _spoken_of(place) != (chosen.facts.training, dict(chosen.facts.tested)):
        shutil.rmtree(place, ignore_errors=True)
        with weighed(chosen, data) as model:
            export(place, model)
    if folder.url is None:
        return str(place)
    archive = Path(shutil.make_archive(str(place), "zip", place))
    return folder.kept(archive)[0]


def _spoken_of(place: Path) -> tuple[str, dict[int, float]] | None:
    """The training, and the test errors by seed, that an exported folder tells of; None where there is none."""
    with suppress(FileNotFoundError, NotADirectoryError, ValueError, KeyError):
        about = json.loads((place / CONFIG).read_text(encoding="utf-8"))["about"]
        return about["training"], {int(seed): error for seed, error in about["test_error_by_seed"].items()}
    return None
