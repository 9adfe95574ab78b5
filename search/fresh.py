"""Beginning a study again: what there is of it is deleted, once somebody has said so."""

from search.errors import InputError
from search.lineage import delete, finished
from search.storage import open_storage
from search.study_folder import StudyFolder
from search.study_spec import StudySpec


def begin_again(folder: StudyFolder, spec: StudySpec, yes: bool) -> None:
    """Deletes the study in `folder` and in its storage, if there is one; what MLflow has of it stays there.

    Raises:
        InputError: there is one, and not `yes`.
    """
    url, owner = spec.search.storage, folder.place
    if not yes:
        storage = open_storage(folder.journal, url) if url or folder.journal.exists() else None
        trials = finished(storage, spec.name, owner) if storage else 0
        if trials or folder.study_file.exists():
            raise InputError(
                f"--fresh would delete study {spec.name!r} in {folder.place} with {trials} finished trials; add "
                "--yes to delete it, or use --name for another study"
            )
        return
    folder.clear()
    if url:
        delete(open_storage(folder.journal, url), spec.name, owner)
    folder.forget()
