"""The sections of a study beside its networks and data: how it is searched, on what, and where it is tracked."""

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from search.errors import InputError, hint
from search.formatting import plural
from search.spec.plain_yaml import is_mapping

FROZEN = ConfigDict(frozen=True, extra="forbid")
_PREFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Sampler(StrEnum):
    """Who proposes the next trial."""

    AUTO = "auto"  # freeze-thaw where the study begins with two starts or more, else random
    FREEZE_THAW = "freeze-thaw"  # a model of new trials and waiting ones
    RANDOM = "random"
    GRID = "grid"  # every configuration of a finite space once


class Scheduler(StrEnum):
    """Who stops trials early."""

    ASHA = "asha"  # asynchronous successive halving
    NONE = "none"


class Objective(StrEnum):
    """What is made small (images_per_s: large)."""

    VAL_ERROR = "val_error"
    VAL_BALANCED_ERROR = "val_balanced_error"  # the mean of the classes' errors
    MACS = "macs"
    PARAMS = "params"
    IMAGES_PER_S = "images_per_s"
    SECONDS = "seconds"
    LATENCY_MS = "latency_ms"

    @property
    def measure(self) -> str:
        """Of an error, what it is called in metrics, in those of each split: `error` or `balanced_error`."""
        return self.value.removeprefix("val_")


ERRORS = (Objective.VAL_ERROR, Objective.VAL_BALANCED_ERROR)
TIMED = (Objective.IMAGES_PER_S, Objective.SECONDS)


def _quantity(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:[eE]\d+)?) ?(k|Ki|[MGT]i?)?B?", str(value).strip())
    quantity = float(match[1]) * _PREFIXES[match[2] or ""] if match else math.inf
    if not math.isfinite(quantity):
        raise ValueError(f"= {value!r} is no quantity; write a number, or 500k, 1.7M, 8G, 8Gi")
    return round(quantity)


def _seconds(value: Any) -> Any:
    """`90s`, `30m`, `2h` or `1d` in seconds; what is no string is left as it is."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", value.strip())
    if not match:
        raise ValueError(f"= {value!r} is not a time; write seconds, or 90s, 30m, 2h")
    return float(match[1]) * _UNITS[match[2]]


def _trainings(value: Any) -> Any:
    """`10 trainings` as 10; what is no string is left as it is."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)(?: ?trainings?)?", value.strip())
    if not match:
        raise ValueError(f"= {value!r} is no number of trainings; write 10, or 10 trainings")
    return int(match[1])


def _money(value: Any) -> str:
    """`20 USD`, however it is spaced."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]{3})", str(value).strip())
    if not match or not 0 < float(match[1]) < math.inf:
        raise ValueError(f"= {value!r} is no amount of money; write a number and a currency, such as 20 USD")
    return f"{match[1]} {match[2].upper()}"


# A validator's sentence that begins with = gets the path of its field before it (`space.sentence`).
Quantity = Annotated[int, Field(ge=1), BeforeValidator(_quantity, json_schema_input_type=int | str)]
Seconds = Annotated[float, Field(gt=0), BeforeValidator(_seconds, json_schema_input_type=float | str)]
Trainings = Annotated[int, Field(ge=1), BeforeValidator(_trainings, json_schema_input_type=int | str)]
Money = Annotated[str, BeforeValidator(_money, json_schema_input_type=str)]


class LimitSpec(BaseModel):
    """Limits of every network of a study; none by default."""

    model_config = FROZEN

    params: Quantity | None = Field(default=None, description="trainable parameters, such as 500k or 1.7M")
    macs: Quantity | None = Field(default=None, description="multiply-accumulates of one image, such as 200M")
    activation_memory: Quantity | None = Field(
        default=None, description="bytes kept for the backward pass of a batch in float32, such as 8G or 8Gi"
    )
    latency_ms: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="milliseconds until the answer is there, see `latency`"
    )
    signal: bool = Field(default=False, description="refuse networks whose gradient cannot reach the first unit")


class LatencySpec(BaseModel):
    """How long a network takes to answer: how that is timed, before it is trained."""

    model_config = FROZEN

    device: Literal["cpu", "cuda"] = Field(default="cpu", description="of the machine where the search is started")
    threads: int = Field(default=1, ge=1, le=1024, description="cores that compute an answer; cpu")
    batch: int = Field(default=1, ge=1, le=65_536, description="images that are answered at once")
    runtime: Literal["torch", "onnxruntime"] = Field(
        default="torch", description="what runs the network; onnxruntime comes with the extra `export`"
    )

    @model_validator(mode="after")
    def _runs(self) -> Self:
        if self.device == "cuda" and self.runtime == "onnxruntime":
            raise ValueError(
                "latency: onnxruntime runs on the cpu here; set latency.device=cpu, or latency.runtime=torch"
            )
        return self

    def __str__(self) -> str:
        """`1 image on 1 core, by torch`."""
        images, cores = plural(self.batch, "image"), plural(self.threads, "core")
        return f"{images} on {'a GPU' if self.device == 'cuda' else cores}, by {self.runtime}"


AUTO = "auto"  # an entry of `start:`: the papers' recipe, and what was good on other data


class Former(BaseModel):
    """An entry of `start:`: the best configurations of another study."""

    model_config = FROZEN

    study: str = Field(description="its name, in the same output folder")
    best: int = Field(default=5, ge=1, description="how many of its best trials are tried first")


class SearchSpec(BaseModel):
    """How the space is searched."""

    model_config = FROZEN

    trials: int = Field(default=24, ge=1, description="trials in all, however they end, but for those beyond limits")
    sampler: Sampler = Field(
        default=Sampler.AUTO,
        description="who proposes the next trial; auto: freeze-thaw after two starts, else random",
    )
    scheduler: Scheduler = Field(default=Scheduler.ASHA, description="who stops trials early")
    first_rung: int = Field(
        default=3, ge=1, description="epochs before a trial may be stopped, fewer in a short training; asha"
    )
    reduction: int = Field(default=3, ge=2, description="one in so many goes on at each rung; asha")
    objectives: tuple[Objective, ...] = Field(
        default=(Objective.VAL_ERROR,),
        description="what is sought; the first stops trials early, so it is val_error, or val_balanced_error: the mean "
        "of the classes' errors, which is what the finals compare too",
    )
    storage: str | None = Field(default=None, description="URL of an Optuna storage; default: a journal in the folder")
    seed: int = Field(default=0, ge=0, lt=2**31, description="of the search")
    max_concurrent: int | None = Field(default=None, ge=1, description="trials at once; default: as many as fit")
    time_budget: Seconds | None = Field(
        default=None, description="seconds of wall time, or 90s, 30m, 2h; no new epoch after it"
    )
    gpu_hours: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="hours of a GPU that trials hold, of a share its part; what the finals need is kept for them",
    )
    max_cost: Money | None = Field(
        default=None,
        description="such as 20 USD: what the nodes of a cluster cost while the study runs, by their labels "
        "`usd-per-hour`; what the finals need is kept for them",
    )
    target: dict[Objective, float] | None = Field(
        default=None,
        min_length=1,
        description="such as {val_error: 5.0}: the search ends once a complete trial is as good in each of these",
    )
    patience: Trainings | None = Field(
        default=None,
        description="such as 10 trainings: the search ends once so many complete ones in a row were not better than "
        "the best before",
    )

    @field_validator("objectives", mode="before", json_schema_input_type=Objective | tuple[Objective, ...])
    @classmethod
    def _one_alone(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("objectives")
    @classmethod
    def _error_first(cls, value: tuple[Objective, ...]) -> tuple[Objective, ...]:
        names = ", ".join(value)
        if not value or value[0] not in ERRORS:
            raise ValueError(
                f"= [{names}] must begin with val_error or val_balanced_error, by which trials are stopped early"
            )
        if len(set(value)) < len(value):
            raise ValueError(f"= [{names}] names one twice; remove the repetition")
        if any(other in ERRORS for other in value[1:]):
            raise ValueError(f"= [{names}] names two errors; keep the one that is to be small")
        return value

    @model_validator(mode="after")
    def _of_its_objectives(self) -> Self:
        for objective, value in (self.target or {}).items():
            where = f"search.target.{objective} = {value:g}"
            if objective not in self.objectives:
                raise ValueError(f"{where} is of no objective of the study; {hint(objective, list(self.objectives))}")
            if not 0 <= value < math.inf:
                raise ValueError(f"{where} cannot be reached; give a number from 0 on")
        return self

    @property
    def measure(self) -> str:
        """The error that is sought, as `Objective.measure`."""
        return self.objectives[0].measure

    @property
    def timed(self) -> list[str]:
        """Objectives that are measured while a trial trains, and which other trials on its GPU would change."""
        return [objective.value for objective in self.objectives if objective in TIMED]

    @property
    def money(self) -> tuple[float, str] | None:
        """`max_cost` as amount and currency."""
        amount, _, currency = (self.max_cost or "").partition(" ")
        return (float(amount), currency) if currency else None

    def within(self, epochs: Any) -> Self:
        """The same where trials are complete after so many epochs: a default `first_rung` comes before the last.

        Raises:
            ValueError: no trial could ever be stopped early.
        """
        if self.scheduler is Scheduler.NONE or not isinstance(epochs, int) or self.first_rung < epochs:
            return self
        if "first_rung" in self.model_fields_set:
            raise ValueError(
                f"search.first_rung = {self.first_rung} is not below train.epochs = {epochs}, so no trial can stop "
                "early; set it lower, more epochs, or search.scheduler=none"
            )
        return self.model_copy(update={"first_rung": epochs - 1} if epochs > 1 else {"scheduler": Scheduler.NONE})


class FinalSpec(BaseModel):
    """The finals: the best configurations, each trained on train + validation with several seeds and tested once."""

    model_config = FROZEN

    top: int = Field(default=3, ge=0, description="best configurations that are retrained and tested; 0: none")
    seeds: int = Field(default=3, ge=2, le=1000, description="trainings of each, with seeds 0, 1, 2 ...")
    max_seeds: int = Field(
        default_factory=lambda data: max(5, data.get("seeds", 0)),
        le=1000,
        description="most trainings of a finalist that is not separable from the best; default: 5, or seeds",
    )
    time_budget: Seconds | None = Field(
        default=None, description="seconds of wall time, or 90s, 30m, 2h; no further seeds after it"
    )

    @field_validator("max_seeds")
    @classmethod
    def _not_fewer(cls, value: int, info: ValidationInfo) -> int:
        least = info.data.get("seeds", value)
        if value < least:
            raise ValueError(f"= {value} is below finals.seeds = {least}; give at least as many")
        return value


class ResourceSpec(BaseModel):
    """What one trial holds while it runs."""

    model_config = FROZEN

    cpus_per_trial: float = Field(default=1, gt=0, description="cores that a trial holds")
    gpus_per_trial: float | Literal["auto"] = Field(
        default="auto",
        description="a share of one, or how many of one machine; auto: as many trials on each as gain, see training.md",
    )

    compile: bool = Field(default=False, description="torch.compile each network: up to a minute before its first step")

    @field_validator("gpus_per_trial", mode="before")
    @classmethod
    def _number_or_auto(cls, value: Any) -> Any:
        if value in (None, "auto"):
            return "auto"
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not number >= 0 or isinstance(value, bool):  # NaN is not, either
            raise ValueError(
                f"= {value!r} should be a number greater than or equal to 0, or auto; "
                "give 0.25 for four trials on a GPU"
            )
        if number > 1 and not number.is_integer():
            raise ValueError(f"= {number:g} is no number of whole GPUs; give {int(number)} or {int(number) + 1}")
        return number

    @field_validator("cpus_per_trial", "gpus_per_trial")
    @classmethod
    def _as_ray_counts(cls, value: float | str) -> float | str:
        if isinstance(value, float) and round(value, 4) != value:
            raise ValueError(f"= {value:g} is too fine; give at most four decimals")
        return value


class TrackingSpec(BaseModel):
    """Where MLflow keeps the runs."""

    model_config = FROZEN

    uri: str | None = Field(default=None, description="of MLflow; default: a database below the output folder")
    experiment: str = Field(default="resnet-search", min_length=1, description="of MLflow, in which the runs are")


class Command(BaseModel):
    """A program that is told what becomes of a study."""

    model_config = FROZEN

    command: tuple[str, ...] = Field(description="the program and its arguments; it reads JSON from its standard input")

    @field_validator("command")
    @classmethod
    def _program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("= [] names no program; give [PROGRAM, ARGUMENT]")
        return value


@dataclass(frozen=True)
class Share:
    """What each trial holds and how many run at once."""

    cpus: float
    gpus: float
    concurrent: int
    processes: int = 1  # that train a trial together: one for each of its GPUs

    @property
    def cpus_each(self) -> float:
        """Cores of one process of a trial, in Ray's four decimals."""
        return int(1e4 * self.cpus / self.processes) / 1e4

    @property
    def threads(self) -> int:
        """Threads of arithmetic of one process of a trial."""
        return max(1, int(self.cpus_each))


FIXED_SECTIONS = ("net", "train")  # of a study, with fixed values
SEARCHED_SECTIONS = (*FIXED_SECTIONS, "data")  # which may stand in space


def dotted(section: Any, name: str = "space", example: str = "net.depth: [8, 14, 20]") -> dict[str, Any]:
    """`{net: {depth: [..]}}` and `{net.depth: [..]}` as `{"net.depth": [..]}`.

    Raises:
        InputError: `section` is no mapping; `name` and `example` say what it should be.
    """
    if not is_mapping(section):
        raise InputError(f"{name} = {section!r} is no mapping; write {example}")
    flat: dict[str, Any] = {}
    for key, entry in section.items():
        parts = entry if key in SEARCHED_SECTIONS and is_mapping(entry) else None
        flat |= {str(key): entry} if parts is None else {f"{key}.{name}": value for name, value in parts.items()}
    return flat
