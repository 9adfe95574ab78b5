"""A study's champion in MLflow's registry: a version of the model that has the study's name, with an alias.

By calls of MLflow's client that may be repeated. `mlflow.pyfunc.log_model` makes a model and a version each time, in
the run that is active, at an address that is set for the whole process, in its environment and with the password.
"""

import json
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient, pyfunc
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array

from search.storage import is_url, local_copy, scratch
from search.tracking.client import TAG_LENGTH

ALIAS = "champion"
DIGEST = "search.weights_sha256"  # the tag by which a champion is known again
NEEDS = ("mlflow", "numpy", "onnxruntime", "pandas")  # what `search.tracking.served_model` imports
_VERSIONS = "mlflow.modelVersions"  # the tag of a logged model that MLflow's pages know its versions by
ONNX = "model.onnx"  # which is served; an export has it where ONNX is installed
DESCRIPTION_LENGTH = 5000  # characters that a registry keeps
_CODE = Path(__file__).with_name("served_model.py")

Config = dict[str, Any]  # of the exported network: config.json


def register(
    client: MlflowClient, experiment_id: str, run_id: str | None, place: str, above: Sequence[str] = ()
) -> str | None:
    """Makes an exported network the champion of its study; its version in the registry. None if it has no ONNX model.

    It may be called any number of times, also after a call that was cut off: the same champion has one version, and
    another takes the alias over.

    Args:
        client: of the tracking server, or of a database.
        experiment_id: of the study.
        run_id: of the training that the weights are of; None where there is none in this store.
        above: runs whose pages lead to the model, too: of the study, and of the trial.
        place: the folder that `search.export.bundle.export` writes, or the URL of its zip archive.

    Raises:
        MlflowException, OSError: the server is away or refuses; the folder cannot be read.
    """
    with _unpacked(place) as folder:
        if not (folder / ONNX).exists():
            return None
        config: Config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name, tags, description = config["about"]["study"], _tags(config), _description(folder)
        text = f"Champions of the study {name}; the alias `{ALIAS}` is at the present one."
        try:
            client.create_registered_model(name, {"search.study": name}, text)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        known = client.search_model_versions(f"name = '{name}' AND tags.`{DIGEST}` = '{tags[DIGEST]}'")
        # others a hanging server has made after all
        found, *others = sorted((str(v.version) for v in known), key=int) or [None]
        for other in others:
            client.delete_model_version(name, str(other))
        model = _logged(client, experiment_id, run_id, folder, config)
        if found is None:
            # not models:/ID: in a database that would be looked for where MLflow's global URI is
            source, wait = model.artifact_location, 0  # waiting is for registries that copy
            made = client.create_model_version(
                name, source, run_id, tags, description=description, await_creation_for=wait, model_id=model.model_id
            )
            found = str(made.version)
        # By these two the pages of runs lead to the version; a server does the first itself, a database does not.
        client.set_logged_model_tags(model.model_id, {_VERSIONS: json.dumps([{"name": name, "version": found}])})
        for run in [run_id, *above] if run_id else above:
            _link(client, run, model.model_id)
        for key, value in tags.items():  # more seeds, or another error, of the same weights
            client.set_model_version_tag(name, found, key, value)
        client.update_model_version(name, found, description)
        client.set_registered_model_alias(name, ALIAS, found)
        return found


@contextmanager
def _unpacked(place: str) -> Iterator[Path]:
    if not is_url(place):
        yield Path(place)
        return
    with local_copy(place) as archive, scratch.folder() as folder:
        shutil.unpack_archive(archive, folder)
        yield folder


def _tags(config: Config) -> dict[str, str]:
    about = config["about"]
    low, high = about["test_interval"] or (None, None)
    tested = f"test/{about['measure']}"
    errors = {tested: about["test_error"], f"{tested}_low": low, f"{tested}_high": high}
    errors[f"val/{about['measure']}"] = about["val_error"]
    seeds = len(about["test_error_by_seed"])
    tags = {
        DIGEST: config["weights_sha256"],
        "search.study": about["study"],
        "search.training": about["training"],
        "search.spec_digest": about["spec_digest"],
        "search.data_digest": about["data"]["digest"],
        **({"test/seeds": str(seeds), "test/images": str(about["data"]["test"])} if seeds else {}),
        **{key: f"{error:.4g}" for key, error in errors.items() if error is not None},
    }
    return {key: value[:TAG_LENGTH] for key, value in tags.items()}


def _description(folder: Path) -> str:
    """The model card, without its head for machines, as far as a registry takes it."""
    card = re.sub(r"\A---\n.*?\n---\n\s*", "", (folder / "README.md").read_text(encoding="utf-8"), flags=re.S)
    if len(card) <= DESCRIPTION_LENGTH:
        return card
    more = "\n\n(The rest is in README.md among the artifacts.)"
    return card[: card.rfind("\n", 0, DESCRIPTION_LENGTH - len(more))] + more


def _logged(client: MlflowClient, experiment_id: str, run_id: str | None, folder: Path, config: Config) -> LoggedModel:
    """The model among the run's: made, or found as a call that was cut off has left it."""
    tags = _tags(config)
    known = client.search_logged_models([experiment_id], f"tags.`{DIGEST}` = '{tags[DIGEST]}'")
    if known:
        model = known[0]
    else:
        sections = (("net", config["net"]), ("train", config["about"]["train"]))
        params = {f"{part}.{name}": str(value) for part, values in sections for name, value in values.items()}
        model = client.create_logged_model(experiment_id, ALIAS, run_id, tags, params, "image classifier")
    if model.status != LoggedModelStatus.READY:
        with scratch.folder() as place, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's, of its own modules
            _save(place / "model", folder, config, model, run_id)
            client.log_model_artifacts(model.model_id, str(place / "model"))
        model = client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model


def _link(client: MlflowClient, run_id: str, model_id: str) -> None:
    """Lets the page of a run lead to a model."""
    outputs = client.get_run(run_id).outputs
    if all(output.model_id != model_id for output in (outputs.model_outputs if outputs else [])):
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def _save(path: Path, folder: Path, config: Config, model: LoggedModel, run_id: str | None) -> None:
    number = DataType.double
    answer: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "label"),
        ColSpec(number, "probability"),
        ColSpec(Array(number), "probabilities"),
    ]
    place, key = model.artifact_location, model.model_id
    pyfunc.save_model(
        path,
        python_model=_CODE,
        artifacts={"champion": str(folder)},
        signature=ModelSignature(outputs=Schema(answer)),  # what goes in, the model checks itself
        input_example=np.load(folder / "examples.npy"),
        pip_requirements=[f"{name}=={version(name)}" for name in NEEDS],
        metadata={"classes": config["classes"], "search.study": config["about"]["study"]},
        mlflow_model=Model(artifact_path=place, model_uuid=key, run_id=run_id, model_id=key),
    )
