"""`StudySpec`: what a user asks for, from a YAML file, the environment and the command line; validated whole."""

import re
from collections.abc import Container, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from resnet.kinds import Family
from search.errors import HIDDEN, InputError, hint, redacted
from search.spec import plain_yaml
from search.spec.compare import Configuration, Row, check_alone, configurations, parsed
from search.spec.data import SMALL, DataSpec
from search.spec.overrides import Scale, change, record, scale
from search.spec.plain_yaml import is_list, is_mapping
from search.spec.sections import (
    AUTO,
    FIXED_SECTIONS,
    FROZEN,
    Command,
    FinalSpec,
    Former,
    LatencySpec,
    LimitSpec,
    Objective,
    ResourceSpec,
    SearchSpec,
    TrackingSpec,
    dotted,
)
from search.spec.space import SIZE, Space, check_path, make
from search.spec.trial import ELSEWHERE, TrainSpec, TrialSpec, sentence
from search.storage import layout

PREPARED_SIZE = "data.image_size"
_WEB = re.compile(r"https?://[^\s/?#]+\S*$")
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # of a study, and of its folder


class StudySpec(BaseModel):
    """A whole study. `net` and `train` hold fixed values, `space` what is searched, by dotted path of `TrialSpec`.

    With `compare` nothing is searched: its rows are the finalists.
    """

    model_config = FROZEN

    name: str = Field(
        pattern=NAME,
        description="of the study and its folder; default: the file's name without its ending",
    )
    description: str = Field(default="", description="a sentence for whoever reads the report")
    data: DataSpec = Field(default=DataSpec(), description="what is trained on; a name alone, or with the keys below")
    weights_dir: str | None = Field(
        default=None,
        description="folder with torchvision's files of ImageNet weights; default: torch's cache, downloaded to there",
    )
    net: dict[str, Any] = Field(default={}, description="fixed values of every network")
    train: dict[str, Any] = Field(default={}, description="fixed values of every training")
    space: dict[str, Any] = Field(default={}, description="what is searched, by path, such as net.depth: [8, 14]")
    start: tuple[str | Former | dict[str, Any], ...] = Field(
        default=(AUTO,),
        description="what is tried first: auto (the papers' recipe, and what was good on other data), names of "
        "published networks or recipes, values by dotted path, {study: NAME, best: 5}; []: nothing",
    )
    compare: tuple[Row, ...] = Field(default=(), description="given configurations, all trained, in place of a search")
    scales: dict[str, tuple[str, ...]] = Field(
        default={}, description="name -> changes as of --set, such as [train.epochs=3], for --scale"
    )
    scale: Scale | None = Field(default=None, description="how far this is from the full recipe; told, not given")
    limits: LimitSpec = Field(default=LimitSpec(), description="what a network may cost; beyond, it is never trained")
    latency: LatencySpec | None = Field(
        default=None,
        description="how networks are timed, each before the first trial; not at all without this, "
        "`limits.latency_ms` or latency_ms in `search.objectives`",
    )
    search: SearchSpec = Field(default=SearchSpec(), description="how the space is searched")
    finals: FinalSpec = Field(
        default=FinalSpec(), description="the best are retrained on train + validation with several seeds, and tested"
    )
    resources: ResourceSpec = Field(default=ResourceSpec(), description="what one trial holds while it runs")
    tracking: TrackingSpec = Field(default=TrackingSpec(), description="where MLflow keeps the runs")
    notify: str | Command | None = Field(
        default=None,
        description="URL that gets a POST of JSON when the study has finished, halted, or has a new champion; or "
        "{command: [PROGRAM, ARGUMENT]}, which reads the same",
    )

    def __init__(self, **given: Any) -> None:
        """Raises InputError, one sentence, where pydantic's would be a list."""
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise InputError(_study_sentence(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _as_files_may_have_it(cls, value: Any) -> Any:
        if not is_mapping(value) or "space" not in value:
            return value
        return _with_size({**value, "space": dotted(value["space"] or {})})

    @field_validator("data", mode="before", json_schema_input_type=str | DataSpec)
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("start", mode="before")
    @classmethod
    def _entries(cls, value: Any) -> Any:
        entries: Any = [value] if is_mapping(value) or isinstance(value, str | Former) else value or ()
        if not is_list(entries):
            raise ValueError(f"start = {value!r} is no list; write [preact_resnet20, {{net.depth: 56}}]")
        return tuple(map(_entry, entries))

    @field_validator("notify", mode="before")
    @classmethod
    def _reached(cls, value: Any) -> Any:
        if is_mapping(value):
            try:
                return Command.model_validate(value)
            except ValidationError as error:
                raise ValueError(f"notify: {sentence(error, Command.model_fields)}") from None
        if isinstance(value, Command | None) or (isinstance(value, str) and _WEB.match(value)):
            return value
        raise ValueError(
            f"= {redacted(value)!r} is no URL of http or https; write https://HOST/PATH, or {{command: [PROGRAM]}}"
        )

    @field_validator("compare", mode="before")
    @classmethod
    def _rows(cls, value: Any) -> Any:
        return parsed(value)

    @field_validator("name", mode="before")
    @classmethod
    def _name_is_a_folder(cls, value: Any) -> Any:
        if isinstance(value, str) and not re.fullmatch(NAME, value):
            raise ValueError(f"= {value!r} cannot name a folder; use letters, digits, dots, - and _")
        if isinstance(value, str) and layout.is_reserved(value):
            raise ValueError(f"= {value!r} is a name that the output folder uses for MLflow; use another name")
        return value

    @model_validator(mode="after")
    def _fixed_or_searched(self) -> Self:
        for path in self.fixed:
            if path in self.space:
                raise ValueError(f"{path} is both fixed and in space; remove one of them")
        if self.name in [former.study for former in self.formers]:
            raise ValueError(f"start: study {self.name!r} cannot begin with its own trials; give it another --name")
        gpus = self.resources.gpus_per_trial
        if self.search.timed and gpus != "auto" and 0 < gpus < 1:
            timed = " and ".join(self.search.timed)
            raise ValueError(
                f"resources.gpus_per_trial = {gpus:g} lets trials share a GPU, but search.objectives has {timed}, "
                "which would be of all trials on it; give 1"
            )
        if self.latency is None and (self.limits.latency_ms or Objective.LATENCY_MS in self.search.objectives):
            object.__setattr__(self, "latency", LatencySpec())
        if self.compare:
            if "start" not in self.model_fields_set:
                object.__setattr__(self, "start", ())
            check_alone(self.space, self.start, self.fixed, self.search, self.limits)
        else:
            object.__setattr__(self, "search", self.search.within(self.train.get("epochs", TrainSpec().epochs)))
        return self

    @property
    def fixed(self) -> dict[str, Any]:
        """Fixed values by dotted path."""
        return {f"{s}.{name}": value for s in FIXED_SECTIONS for name, value in getattr(self, s).items()}

    def values(self, rows: Container[str]) -> dict[str, Any]:
        """What decides about the numbers that come out: path -> value, or all values that these rows have."""
        data = {f"data.{name}": value for name, value in self.data.model_dump(exclude={"dir"}).items()}
        found = {**data, **self.fixed, "finals.seeds": self.finals.seeds, "compare": len(self.compare)}
        own = [row.set for row in self.compare if row.name in rows]
        for path in sorted({path for row in own for path in row}):
            given = [row.get(path, self.fixed.get(path)) for row in own]
            found[path] = [v for place, v in enumerate(given) if v is not None and v not in given[:place]]
        return found

    @property
    def formers(self) -> tuple[Former, ...]:
        """The other studies that it begins with the best of."""
        return tuple(entry for entry in self.start if isinstance(entry, Former))

    @property
    def epochs(self) -> int:
        """Epochs of a complete trial."""
        return int(self.train.get("epochs", TrainSpec().epochs))

    def make_space(self, shape: tuple[int, int, int], classes: int) -> Space:
        """The search space over networks for images of `shape` (height, width, channels).

        Raises:
            InputError: naming the field that is wrong.
        """
        return make(self.space, self._complete(shape, classes))

    def rows(self, shape: tuple[int, int, int], classes: int) -> tuple[Configuration, ...]:
        """What is compared, on images of `shape` (height, width, channels); empty in a study that searches.

        Raises:
            InputError: naming the row that is wrong.
        """
        return configurations(self.compare, self._complete(shape, classes), shape[:2])

    def _complete(self, shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
        """The fixed values, with those that follow from the data."""
        for path in self.fixed:
            check_path(path)
        height, _, channels = shape
        of_data = {"net.in_channels": channels, "net.num_classes": classes, "net.image_size": height}
        chosen = any("net.family" in one for one in (self.fixed, self.space, *(row.set for row in self.compare)))
        family = {} if chosen or max(shape[:2]) <= SMALL else {"net.family": Family.IMAGENET.value}
        return family | self.fixed | of_data

    def to_yaml(self) -> str:
        """The study, fully resolved, as YAML that `load` reads back to an equal study; passwords in URLs left out."""
        return plain_yaml.dump(self.public())

    def flat(self) -> dict[str, Any]:
        """As `to_yaml`, by dotted path."""
        return _flat(self.public())

    def public(self) -> dict[str, Any]:
        """The study as data of JSON, without secrets: of `notify` its host alone, for the path may be a token."""
        shown: dict[str, Any] = redacted(self.model_dump(mode="json"))
        if isinstance(self.notify, str):
            shown["notify"] = _host_of(self.notify)
        return shown


def _host_of(url: str) -> str:
    """`https://hooks.example.com/***`; whole where there is no path."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{f'/{HIDDEN}' if parts.path.strip('/') or parts.query or parts.fragment else ''}"


def _with_size(raw: dict[str, Any]) -> dict[str, Any]:
    """Where `data.image_size` is searched: images are prepared at the largest, and each trial has its own size."""
    if PREPARED_SIZE not in raw["space"]:
        return raw
    entry, data = raw["space"][PREPARED_SIZE], raw.get("data")
    if isinstance(data, DataSpec):
        data = data.model_dump(exclude_unset=True)
    data = {"name": data} if isinstance(data, str) else {} if data is None else data
    if not is_mapping(data):
        return raw  # which is refused as what it is
    if data.get("image_size") is not None:
        raise ValueError(f"{PREPARED_SIZE} is both fixed and in space; remove one of them")
    sizes: Any = entry.get("choices") if is_mapping(entry) else entry
    if not (is_list(sizes) and sizes and all(type(size) is int for size in sizes)):
        raise ValueError(f"space.{PREPARED_SIZE} = {entry!r} is no list of sides in pixels; write [96, 128, 160]")
    space = {SIZE if path == PREPARED_SIZE else path: one for path, one in raw["space"].items()}
    return {**raw, "data": {**data, "image_size": max(sizes)}, "space": space}


def _entry(given: Any) -> Any:
    """An entry of `start:` of one of its three kinds."""
    if not is_mapping(given) or "study" not in given:
        if is_mapping(given) or isinstance(given, str | Former):
            return given
        raise ValueError(
            f"start: {given!r} is neither a published network or recipe nor values; write {{net.depth: 56}}"
        )
    try:
        return Former.model_validate(given)
    except ValidationError as error:
        raise ValueError(f"start: {sentence(error, Former.model_fields)}") from None


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if is_mapping(value) and value else {f"{prefix}{key}": value}
    return flat


def load(
    study: Path | Mapping[str, Any], changes: Sequence[tuple[str, Any]] = (), scale_name: str | None = None
) -> StudySpec:
    """Reads a study, scales it, and applies `changes`, (dotted path, value) pairs, the later over the earlier.

    Args:
        study: its file, or what one holds.
        changes: see above.
        scale_name: of one of its scales.

    Raises:
        InputError: unreadable file, unknown key or scale, or a value out of range.
    """
    raw = _read(study) if isinstance(study, Path) else deepcopy(dict(study))
    raw["space"] = dotted(raw.get("space") or {})
    recipe = _validated(raw) if raw.get("scales") or scale_name is not None else None
    if recipe is not None and scale_name is not None:
        scale(raw, scale_name, recipe.scales, recipe.scale)
    for where, value in changes:
        change(raw, where, value)
    spec = _validated(raw)
    if recipe is None:
        return spec
    rows = {row.name for row in spec.compare}
    known = record(recipe.values(rows), spec.values(rows), recipe.scale, scale_name)
    return spec.model_copy(update={"scale": known})


def _validated(raw: Mapping[str, Any]) -> StudySpec:
    try:
        return StudySpec(**{str(key): value for key, value in raw.items()})
    except ValidationError as error:
        raise InputError(_study_sentence(error)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = plain_yaml.read(path)
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"study {path}: cannot be read as YAML ({error}); correct the file") from None
    if not is_mapping(raw):
        raise InputError(f"study {path}: holds no mapping; begin with name:, data: and space:")
    return {"name": path.stem, **raw}


def _study_sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] != "extra_forbidden":
        return sentence(error)
    *sections, key = map(str, first["loc"])
    fields = StudySpec.model_fields
    for section in sections:
        fields = getattr(fields[section].annotation, "model_fields", fields)
    where = ".".join([*sections, key])
    remedy = hint(key, list(fields)) if sections else _near(key)
    return f"{where} = {redacted(first['input'])!r} is not a key of a study; {remedy}"


def _near(key: str) -> str:
    """The remedy for a key at the top that is none: where one of that name is, or as `hint` says."""
    names = {path.rpartition(".")[2]: f"{path} (fixed) or space.{path} (searched)" for path in TrialSpec.paths()}
    for section, field in StudySpec.model_fields.items():
        names |= {name: f"{section}.{name}" for name in getattr(field.annotation, "model_fields", {})}
    if key in ELSEWHERE:
        return ELSEWHERE[key]
    return f"did you mean {names[key]}?" if key in names else hint(key, list(StudySpec.model_fields))
