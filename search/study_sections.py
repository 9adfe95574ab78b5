"""The sections of a study beside its networks and data: how it is searched, on what, and where it is tracked."""

import re
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from search.spec import Compile

FROZEN = ConfigDict(frozen=True, extra="forbid")
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

    model_config = FROZEN

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

    model_config = FROZEN

    cpus_per_trial: float = Field(default=1, gt=0)
    gpus_per_trial: float | Literal["auto"] = Field(
        default="auto", description="a share of one, or 1, 2 ...; auto: measured where there is a GPU, else none"
    )

    compile: Compile = Field(
        default=Compile.AUTO, description="torch.compile: always, never, or auto: where it repays by measurement"
    )

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
                f"resources.gpus_per_trial = {value!r} should be a number greater than or equal to 0, or auto; "
                "give 0.25 for four trials on a GPU"
            )
        return number

    @field_validator("cpus_per_trial", "gpus_per_trial")
    @classmethod
    def _as_ray_counts(cls, value: float | str, info: ValidationInfo) -> float | str:
        if isinstance(value, str):
            return value
        if round(value, 4) != value:
            raise ValueError(f"resources.{info.field_name} = {value:g} is too fine; give at most four decimals")
        if info.field_name == "gpus_per_trial" and value > 1 and not float(value).is_integer():
            raise ValueError(f"resources.gpus_per_trial = {value:g} is no share of one GPU; give up to 1, or 2, 3 ...")
        return value


class TrackingSpec(BaseModel):
    """Where MLflow keeps the runs."""

    model_config = FROZEN

    uri: str | None = Field(default=None, description="default: a database below the output folder")
    experiment: str = Field(default="resnet-search", min_length=1)
