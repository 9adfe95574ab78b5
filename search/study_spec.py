"""`StudySpec`: what a user asks for, from a YAML file, the environment and the command line; validated whole."""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from search.data_spec import DataSpec
from search.errors import InputError, hint
from search.redact import without_credentials
from search.space import Space, sentence
from search.space_parse import FROM_DATA, make
from search.spec import TrainSpec, TrialSpec
from search.study_change import SECTIONS, change, dotted

SHIPPED = Path(__file__).parent / "studies"
_FROZEN = ConfigDict(frozen=True, extra="forbid")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Sampler(StrEnum):
    """Who proposes the next trial."""

    TPE = "tpe"
    RANDOM = "random"


class Scheduler(StrEnum):
    """Who stops trials early."""

    ASHA = "asha"
    NONE = "none"


class SearchSpec(BaseModel):
    """How the space is searched."""

    model_config = _FROZEN

    trials: int = Field(default=24, ge=1, description="trials in all, however they end")
    sampler: Sampler = Sampler.TPE
    scheduler: Scheduler = Scheduler.ASHA
    first_rung: int = Field(default=3, ge=1, description="epochs before a trial may be stopped; asha only")
    reduction: int = Field(default=3, ge=2, description="one in so many trials goes on at each rung; asha only")
    seed: int = Field(default=0, ge=0, lt=2**31)
    max_concurrent: int | None = Field(default=None, ge=1, description="trials at once; default: as many as fit")
    time_budget: float | None = Field(
        default=None, gt=0, description="seconds of wall time, or 90s, 30m, 2h; no new epoch after it"
    )

    @field_validator("time_budget", mode="before")
    @classmethod
    def _duration(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", value.strip())
        if not match:
            raise ValueError(f"search.time_budget = {value!r} is not a time; write seconds, or 90s, 30m, 2h")
        return float(match[1]) * _UNITS[match[2]]


class ResourceSpec(BaseModel):
    """What one trial holds while it runs."""

    model_config = _FROZEN

    cpus_per_trial: float = Field(default=1, gt=0)
    gpus_per_trial: float | None = Field(default=None, ge=0, description="default: one where there is a GPU, else none")

    @field_validator("cpus_per_trial", "gpus_per_trial")
    @classmethod
    def _as_ray_counts(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and round(value, 4) != value:
            raise ValueError(f"resources.{info.field_name} = {value:g} is too fine; give at most four decimals")
        if info.field_name == "gpus_per_trial" and value is not None and value > 1 and not value.is_integer():
            raise ValueError(f"resources.gpus_per_trial = {value:g} is no share of one GPU; give up to 1, or 2, 3 ...")
        return value


class TrackingSpec(BaseModel):
    """Where MLflow keeps the runs."""

    model_config = _FROZEN

    uri: str | None = Field(default=None, description="default: a database below the output folder")
    experiment: str = Field(default="resnet-search", min_length=1)


class StudySpec(BaseModel):
    """A whole study. `net` and `train` hold fixed values, `space` what is searched, by dotted path of `TrialSpec`."""

    model_config = _FROZEN

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    description: str = ""
    data: DataSpec = DataSpec()
    net: dict[str, Any] = {}
    train: dict[str, Any] = {}
    space: dict[str, Any] = {}
    search: SearchSpec = SearchSpec()
    resources: ResourceSpec = ResourceSpec()
    tracking: TrackingSpec = TrackingSpec()

    @field_validator("data", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("name", mode="before")
    @classmethod
    def _name_is_a_folder(cls, value: Any) -> Any:
        if isinstance(value, str) and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
            raise ValueError(f"name = {value!r} cannot name a folder; use letters, digits, dots, - and _")
        return value

    @model_validator(mode="after")
    def _fixed_or_searched(self) -> Self:
        for path in self.fixed:
            if path in self.space:
                raise ValueError(f"{path} is both fixed and in space; remove one of them")
        return self

    @property
    def fixed(self) -> dict[str, Any]:
        """Fixed values by dotted path."""
        return {f"{s}.{name}": value for s in SECTIONS for name, value in getattr(self, s).items()}

    @property
    def epochs(self) -> int:
        """Epochs of a complete trial."""
        return int(self.train.get("epochs", TrainSpec().epochs))

    def make_space(self, shape: tuple[int, int, int], classes: int) -> Space:
        """The search space over networks for images of `shape` (height, width, channels).

        Raises:
            InputError: naming the field that is wrong.
        """
        for path in self.fixed:
            if path not in TrialSpec.paths():
                raise InputError(f"{path} is not a field; {hint(path, TrialSpec.paths())}")
            if path in FROM_DATA:
                raise InputError(f"{path} follows from the data set; remove it")
        height, _, channels = shape
        of_data = {"net.in_channels": channels, "net.num_classes": classes, "net.image_size": height}
        return make(self.space, self.fixed | of_data)

    def to_yaml(self) -> str:
        """The study, fully resolved, as YAML that `load` reads back to an equal study; passwords in URLs left out."""
        return without_credentials(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted paths."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def shipped() -> dict[str, Path]:
    """Name -> file of the studies that come with the package."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def find(study: str) -> Path:
    """The file of a shipped study, or the file itself.

    Raises:
        InputError: there is neither.
    """
    if study in shipped():
        return shipped()[study]
    path = Path(study).expanduser()
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise InputError(f"study {study!r}: there is no such file; {hint(study, list(shipped()))}")
    raise InputError(f"study {study!r} is unknown; {hint(study, list(shipped()))} (or give a file that ends in .yaml)")


def load(path: Path, changes: Sequence[tuple[str, Any]] = ()) -> StudySpec:
    """Reads a study and applies `changes`, (dotted path, value) pairs, the later over the earlier.

    Raises:
        InputError: unreadable file, unknown key, or a value out of range.
    """
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"study {path}: cannot be read as YAML ({' '.join(str(error).split())}); correct the file"
        ) from None
    if not isinstance(raw, dict):
        raise InputError(f"study {path}: holds no mapping; begin with name:, data: and space:")
    raw.setdefault("name", path.stem)
    raw["space"] = dotted(raw.get("space") or {})
    for where, value in changes:
        change(raw, where, value)
    try:
        return StudySpec.model_validate(raw)
    except ValidationError as error:
        raise InputError(_study_sentence(error)) from None


def _study_sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        model: type[BaseModel] = StudySpec
        for part in first["loc"][:-1]:
            annotation = model.model_fields[str(part)].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
        return (
            f"{where} = {first['input']!r} is not a key of a study; {hint(first['loc'][-1], list(model.model_fields))}"
        )
    text = sentence(error)
    return text if where.split(".")[0] in text else f"{where} {text}"
