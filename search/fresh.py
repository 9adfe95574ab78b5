"""Beginning a study again: what there is of it is deleted, once somebody has said so."""

from search.errors import InputError
from search.lineage import check_owner, delete, finished
from search.storage import open_storage
from search.study_folder import StudyFolder
from search.study_spec import StudySpec


def check_told(folder: StudyFolder, spec: StudySpec, yes: bool) -> None:
    """Refuses to delete the study in `folder`, or in its storage, if there is one and not `yes`.

    Raises:
        InputError: that is so.
    """
    url = spec.search.storage
    if yes:
        return
    storage = open_storage(folder.journal, url) if url or folder.journal.exists() else None
    trials = finished(storage, spec.name, folder.owner(url is not None)) if storage else 0
    if trials or folder.study_file.exists():
        raise InputError(
            f"--fresh would delete study {spec.name!r} in {folder.place} with {trials} finished trials; add "
            "--yes to delete it, or use --name for another study"
        )


def delete_study(folder: StudyFolder, spec: StudySpec) -> list[str]:
    """Deletes the study in `folder` and in its storage, if there is one; what MLflow has of it stays there.

    Returns what stays in the folder, for it is not the study's.

    Raises:
        InputError: the storage holds a study of this name that belongs to another folder; nothing is deleted.
    """
    url, owner = spec.search.storage, folder.owner(spec.search.storage is not None)
    storage = open_storage(folder.journal, url) if url else None
    if storage is not None:
        check_owner(storage, spec.name, owner)
    stays = folder.clear()
    if storage is not None:
        delete(storage, spec.name, owner)
    folder.forget()
    return stays
