"""A study's champion in MLflow's registry: a version of the model that has the study's name, with an alias."""

import json
import re
import shutil
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient, pyfunc
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array

from search.storage import is_url, local_copy, scratch
from search.tracking.client import TAG_LENGTH

ALIAS = "champion"
DIGEST = "search.weights_sha256"  # the tag by which a champion is known again
NEEDS = ("mlflow", "numpy", "onnxruntime", "pandas")  # what `search.tracking.served_model` imports
ONNX = "model.onnx"  # which is served; an export has it where ONNX is installed
DESCRIPTION_LENGTH = 5000  # characters that a registry keeps
_CODE = Path(__file__).with_name("served_model.py")


@dataclass(frozen=True)
class _Champion:
    """What the folder of `python -m search.export` says."""

    folder: Path
    config: dict[str, Any]

    @property
    def name(self) -> str:
        return self.config["about"]["study"]

    @property
    def digest(self) -> str:
        return self.config["weights_sha256"]

    @property
    def tags(self) -> dict[str, str]:
        about = self.config["about"]
        tested = about["test_error_by_seed"]
        found = {
            DIGEST: self.digest,
            "search.study": self.name,
            "search.training": about["training"],
            "search.spec_digest": about["spec_digest"],
            "search.data_digest": about["data"]["digest"],
        }
        if tested:
            found |= {"test/error": f"{about['test_error']:.4g}", "test/seeds": str(len(tested))}
            found["test/images"] = str(about["data"]["test"])
        if about["test_interval"]:
            low, high = about["test_interval"]
            found |= {"test/error_low": f"{low:.4g}", "test/error_high": f"{high:.4g}"}
        if about["val_error"] is not None:
            found["val/error"] = f"{about['val_error']:.4g}"
        return {key: value[:TAG_LENGTH] for key, value in found.items()}

    @property
    def params(self) -> dict[str, str]:
        sections = (("net", self.config["net"]), ("train", self.config["about"]["train"]))
        return {f"{section}.{name}": str(value) for section, values in sections for name, value in values.items()}

    @property
    def description(self) -> str:
        """The model card, without its head for machines, as far as a registry takes it."""
        card = re.sub(r"\A---\n.*?\n---\n\s*", "", (self.folder / "README.md").read_text(encoding="utf-8"), flags=re.S)
        if len(card) <= DESCRIPTION_LENGTH:
            return card
        more = "\n\n(The rest is in README.md among the artifacts.)"
        return card[: card.rfind("\n", 0, DESCRIPTION_LENGTH - len(more))] + more


def register(client: MlflowClient, experiment_id: str, run_id: str | None, folder: Path) -> str:
    """Makes the network in `folder` the champion of its study; its version in the registry.

    It may be called any number of times, also after a call that was cut off: the same champion has one version, and
    another takes the alias over.

    Args:
        client: of the tracking server, or of a database.
        experiment_id: of the study.
        run_id: of the training that the weights are of; None where there is none in this store.
        folder: as `search.export.bundle.export` writes it.

    Raises:
        MlflowException, OSError: the server is away or refuses; the folder cannot be read.
    """
    champion = _Champion(folder, json.loads((folder / "config.json").read_text(encoding="utf-8")))
    _name_it(client, champion)
    found = _version(client, champion) or _new_version(client, experiment_id, run_id, champion)
    for key, value in champion.tags.items():  # more seeds, or another error, of the same weights
        client.set_model_version_tag(champion.name, found, key, value)
    client.update_model_version(champion.name, found, champion.description)
    client.set_registered_model_alias(champion.name, ALIAS, found)
    return found


def crown(client: MlflowClient, experiment_id: str, run_id: str | None, place: str) -> None:
    """As `register`, of a folder or of the URL of its zip archive; does nothing where there is no ONNX model in it.

    A study whose champion has changed says so again, with the new folder.
    """
    if not is_url(place):
        if Path(place, ONNX).exists():
            register(client, experiment_id, run_id, Path(place))
        return
    with local_copy(place) as archive, scratch.folder() as folder:
        shutil.unpack_archive(archive, folder)
        if (folder / ONNX).exists():
            register(client, experiment_id, run_id, folder)


def _name_it(client: MlflowClient, champion: _Champion) -> None:

    text = f"Champions of the study {champion.name}; the alias `{ALIAS}` is at the present one."
    try:
        client.create_registered_model(champion.name, {"search.study": champion.name}, text)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version(client: MlflowClient, champion: _Champion) -> str | None:
    """The version that has these weights; others, which a hanging server made after all, are deleted."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{champion.name}'", page_token=token)
        found += [v for v in page if v.tags.get(DIGEST) == champion.digest]
        token = page.token
        if not token:
            break
    first, *others = sorted((str(v.version) for v in found), key=int) or [None]
    for other in others:
        client.delete_model_version(champion.name, str(other))
    return first


def _new_version(client: MlflowClient, experiment_id: str, run_id: str | None, champion: _Champion) -> str:
    model = _logged(client, experiment_id, run_id, champion)
    made = client.create_model_version(
        champion.name,
        model.artifact_location,  # not models:/ID: in a database that would be looked for where MLflow's global URI is
        run_id,
        champion.tags,
        description=champion.description,
        await_creation_for=0,  # which is for registries that copy
        model_id=model.model_id,
    )
    return str(made.version)


def _logged(client: MlflowClient, experiment_id: str, run_id: str | None, champion: _Champion) -> LoggedModel:
    """The model among the run's: made, or found as a call that was cut off has left it."""

    known = client.search_logged_models([experiment_id], f"tags.`{DIGEST}` = '{champion.digest}'")
    model = known[0] if known else client.create_logged_model(
        experiment_id, ALIAS, run_id, champion.tags, champion.params, "image classifier"
    )  # fmt: skip
    if model.status != LoggedModelStatus.READY:
        with scratch.folder() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's, of its own modules
            saved = folder / "model"
            _save(saved, champion, model, run_id)
            client.log_model_artifacts(model.model_id, str(saved))
        model = client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run_id).outputs if run_id else None
    if run_id and all(o.model_id != model.model_id for o in (outputs.model_outputs if outputs else [])):
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def _save(path: Path, champion: _Champion, model: LoggedModel, run_id: str | None) -> None:

    image = champion.config["image"]
    pixels = TensorSpec(np.dtype(np.uint8), (-1, image["height"], image["width"], image["channels"]))
    answer: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "label"),
        ColSpec(DataType.double, "probability"),
        ColSpec(Array(DataType.double), "probabilities"),
    ]
    pyfunc.save_model(
        path,
        python_model=_CODE,
        artifacts={"champion": str(champion.folder)},
        signature=ModelSignature(Schema([pixels]), Schema(answer)),
        input_example=np.load(champion.folder / "examples.npy"),
        pip_requirements=[f"{name}=={version(name)}" for name in NEEDS],
        metadata={"classes": champion.config["classes"], "search.study": champion.name},
        mlflow_model=Model(
            artifact_path=model.artifact_location, model_uuid=model.model_id, run_id=run_id, model_id=model.model_id
        ),
    )
