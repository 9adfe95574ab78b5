"""What is asked for: a study by its name, file, mapping or specification, and what is changed in it by a word."""

import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, get_type_hints

import yaml

from search import spec
from search.errors import InputError, hint
from search.spec import find, plain_yaml, shipped
from search.storage import Output, layout, replica

if TYPE_CHECKING:
    from search.spec import StudySpec


class Changes(TypedDict, total=False):
    """Keywords that change a study, each with the key of a study that it stands for."""

    name: Annotated[str | None, "name"]
    trials: Annotated[int | str | None, "search.trials"]
    epochs: Annotated[int | None, "train.epochs"]
    time_budget: Annotated[float | str | None, "search.time_budget"]  # seconds, or 90s, 30m, 2h
    data: Annotated[str | None, "data.name"]  # a name, a folder of images, or an .npz archive
    data_dir: Annotated[str | None, "data.dir"]
    weights_dir: Annotated[str | None, "weights_dir"]
    cpus_per_trial: Annotated[float | str | None, "resources.cpus_per_trial"]
    gpus_per_trial: Annotated[float | str | None, "resources.gpus_per_trial"]
    max_concurrent: Annotated[int | str | None, "search.max_concurrent"]
    learn_from: Annotated[Sequence[str] | None, "start"]  # studies in the output, whose best are tried first
    seed: Annotated[int | str | None, "search.seed"]
    sampler: Annotated[str | None, "search.sampler"]
    scheduler: Annotated[str | None, "search.scheduler"]
    storage: Annotated[str | None, "search.storage"]
    tracking_uri: Annotated[str | None, "tracking.uri"]


KEYS: dict[str, str] = {
    keyword: key.__metadata__[0] for keyword, key in get_type_hints(Changes, include_extras=True).items()
}
STARTS = 8  # configurations that --learn-from stands for, when all its studies have their share
ENVIRONMENT = {"MLFLOW_TRACKING_URI": "tracking.uri", "MLFLOW_EXPERIMENT_NAME": "tracking.experiment"}


def specify(
    study: "str | Path | Mapping[str, Any] | StudySpec",
    output: Output,
    scale: str | None,
    set: Mapping[str, Any],
    changes: Changes,
) -> "StudySpec":
    """The study that is asked for; `changes` win over `set`, and that over the environment.

    Raises:
        InputError: no such study or change, or one that is not valid.
        Halted: the URL of `output` does not answer.
    """
    asked = changed(set, changes)
    name = dict(asked).get("name")
    if isinstance(study, spec.StudySpec):
        return spec.load(study.model_dump(mode="json"), asked, scale)
    if isinstance(study, Mapping):
        if not (name or "name" in study):
            raise InputError(f"study = {dict(study)!r} has no name; give it one")
        return spec.load({"name": name, **study}, asked, scale)
    study = str(study)
    by_name = study not in shipped() and Path(study).suffix not in (".yaml", ".yml")
    kept = _kept(output, str(name or study)) if by_name else None
    return spec.load(kept or find(study), asked, scale)


def changed(set: Mapping[str, Any], changes: Changes) -> list[tuple[str, Any]]:
    """(Key of the study, value), the weaker first: environment, `set`, `changes`.

    Raises:
        InputError: a keyword that is none.
    """
    for name in changes:
        if name not in KEYS:
            raise InputError(f"{name} changes nothing in a study; {hint(name, list(KEYS))}, or use set={{KEY: VALUE}}")
    environment = [(key, os.environ[name]) for name, key in ENVIRONMENT.items() if os.environ.get(name)]
    given = {name: value for name, value in changes.items() if value is not None}
    if data := changes.get("data"):
        given["data"] = data_name(data)
    if learn_from := changes.get("learn_from"):
        best = math.ceil(STARTS / len(learn_from))
        given["learn_from"] = [{"study": study, "best": best} for study in learn_from]
    return [*environment, *set.items(), *((KEYS[name], value) for name, value in given.items())]


def data_name(given: str) -> str:
    """`imagefolder:PATH` for a folder, `npz:PATH` for an archive; what is neither is a name already."""
    if given.endswith(".npz") and ":" not in given:
        return f"npz:{given}"
    folder = Path(given).expanduser().is_dir() or (os.sep in given and ":" not in given)
    return f"imagefolder:{given}" if folder else given


def unasked(before: "StudySpec", now: "StudySpec", keys: Collection[str]) -> dict[str, tuple[Any, Any]]:
    """Path -> value before and now, of what decides how long a study goes on, where none of `keys` asks for it."""
    old, new = before.flat(), now.flat()
    return {
        path: (old.get(path), new.get(path))
        for path in {**old, **new}
        if path.startswith(("search.", "finals."))
        and path not in ("search.storage", "search.max_concurrent")
        and old.get(path) != new.get(path)
        and not any(f"{path}.".startswith(f"{key}.") for key in keys)
    }


def spec_of(output: Output, name: str, storage: str | None = None) -> "StudySpec":
    """What the study `name` is asked to do; `storage`: the URL of its trials, where its own lacks a password.

    Raises:
        InputError: there is no such study, or its file is damaged.
        Halted: the URL does not answer.
    """
    kept = _kept(output, name)
    if kept is not None:
        return spec.load(kept, [("search.storage", storage)] if storage else [])
    if output.url is not None:
        remedy = "; correct the name, or --output"
    elif known := [path.parent.name for path in sorted(output.path.glob(f"*/{layout.STUDY_FILE}"))]:
        remedy = f"; {hint(name, known)}"
    else:
        remedy = ", which holds no study; run `python -m search.run`, or name --output"
    raise InputError(f"study {name!r} is not in {str(output)!r}{remedy}")


def _kept(output: Output, name: str) -> dict[str, Any] | None:
    """What is in the file of a study; None where there is none."""
    if Path(name).name != name:
        return None  # a path would lead out of the output
    data = replica.read(output.place(name), layout.STUDY_FILE)
    try:
        found = plain_yaml.parse(data.decode()) if data is not None else {}
    except (UnicodeDecodeError, yaml.YAMLError):
        found = None
    if not isinstance(found, dict):
        file = f"{output.place(name)}/{layout.STUDY_FILE}"
        raise InputError(f"{file} is damaged; give the study's own file again, which writes it anew")
    return {"name": name, **found} if data is not None else None
