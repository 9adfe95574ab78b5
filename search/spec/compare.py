"""`compare:` of a study: configurations that are trained beside each other, in place of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, ValidationError, field_validator

from search.errors import InputError, hint
from search.spec.plain_yaml import is_list, is_mapping
from search.spec.published import Figure, Recipe
from search.spec.sections import FROZEN, LimitSpec, SearchSpec, dotted
from search.spec.space import check_path
from search.spec.trial import TrialSpec, Value, sentence

SAME_FOR_ALL = {  # what a row cannot set, and where it is said instead
    "train.epochs": "all rows train equally long; set train.epochs of the study",
    "train.seed": "every row has the same seeds, 0, 1, 2 ...; set finals.seeds",
}
BATCH = "train.batch_size"
BUDGETS = ("time_budget", "gpu_hours", "max_cost")  # of `search`
STILL_USED = ("seed", "storage", "max_concurrent")  # of `search`, also without one


class Row(BaseModel):
    """One configuration, as the study's file has it."""

    model_config = FROZEN

    name: str = Field(description="a word or two, of its own")
    recipe: str | None = Field(
        default=None, description="name of a published recipe, whose values go over the fixed values of the study"
    )
    set: dict[str, Any] = Field(default={}, description="values by path, over those of the recipe and the study")
    published: tuple[str, ...] = Field(default=(), description="keys of published figures that are set beside it")
    against: str | None = Field(
        default=None, description="name of the row that it is compared with; default: the first"
    )

    @field_validator("recipe")
    @classmethod
    def _known_recipe(cls, value: str | None) -> str | None:
        if value is not None and value not in Recipe.names():
            raise ValueError(f"= {value!r} is no published recipe; {hint(value, Recipe.names())}")
        return value

    @field_validator("set", mode="before")
    @classmethod
    def _by_path(cls, value: Any) -> Any:
        return dotted(value or {}, "set", "{net.depth: 56}")

    @field_validator("published", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _known(cls, value: Any) -> Any:
        keys, known = tuple(value) if is_list(value) else (value,), Figure.keys()
        for key in keys:
            if key not in known:
                raise ValueError(f"= {key!r} is no known figure; {hint(key, known)}")
        return keys

    @property
    def figures(self) -> tuple[str, ...]:
        """Keys of the published figures that are set beside it: those named, or else that of its recipe."""
        if self.published or self.recipe is None:
            return self.published
        return (Recipe.of(self.recipe).figure.key,)


@dataclass(frozen=True)
class Configuration:
    """A row that can be trained."""

    label: str
    trial: TrialSpec
    published: tuple[str, ...]
    against: str | None  # label of the row that it is compared with; None for the first row

    @property
    def params(self) -> dict[str, Value]:
        """Flat view of the trial, without its seed."""
        return {path: value for path, value in self.trial.flat().items() if path != "train.seed"}


def parsed(given: Any) -> tuple[Row, ...]:
    """The rows of a study's file."""
    if given is None:
        return ()
    if not is_list(given):
        raise InputError(f"compare = {given!r} is no list of rows; write - {{name: deep, set: {{net.depth: 56}}}}")
    rows = tuple(_row(number, row) for number, row in enumerate(given, 1))
    names = [row.name for row in rows]
    for row in rows:
        if names.count(row.name) > 1:
            raise InputError(f"compare: two rows are named {row.name!r}; give each a name of its own")
        if row.against is not None and row.against not in names:
            near = hint(row.against, names)
            raise InputError(f"compare: row {row.name!r}: against = {row.against!r} is no row; {near}")
        if row.against == row.name:
            raise InputError(f"compare: row {row.name!r} is compared with itself; name another row in against")
    return rows


def _row(number: int, given: Any) -> Row:
    if isinstance(given, Row):
        return given
    name = given.get("name") if is_mapping(given) else None
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InputError(f"compare: row {number} = {given!r} has no name; write name: and a word or two in quotes")
    try:
        return Row.model_validate(given)
    except ValidationError as error:
        raise InputError(f"compare: row {name!r}: {sentence(error, Row.model_fields)}") from None


def configurations(
    rows: Sequence[Row], fixed: Mapping[str, Value], image: tuple[int, int]
) -> tuple[Configuration, ...]:
    """The rows over the study's fixed values, for images of `image` (height, width)."""
    first = rows[0].name if rows else None
    found: dict[str, Configuration] = {}
    for row in rows:
        trial = _trial(row, fixed, image)
        against = row.against or (None if row.name == first else first)
        twin = found.setdefault(trial.digest, Configuration(row.name, trial, row.figures, against))
        if twin.label != row.name:
            raise InputError(
                f"compare: rows {twin.label!r} and {row.name!r} are the same network, trained in the same way; "
                "change one, or remove it"
            )
    return tuple(found.values())


def _trial(row: Row, fixed: Mapping[str, Value], image: tuple[int, int]) -> TrialSpec:
    where = f"compare: row {row.name!r}"
    for path, value in row.set.items():
        check_path(path, f"{where}: ")
        if path in SAME_FOR_ALL:
            raise InputError(f"{where}: {path} = {value} cannot be set here, for {SAME_FOR_ALL[path]}")
    recipe: dict[str, Value] = {}
    if row.recipe is not None:
        batch = {**fixed, **row.set}.get(BATCH, TrialSpec.default(BATCH, {}))
        recipe = Recipe.of(row.recipe).values(batch) if isinstance(batch, int) else {}  # else it is refused below
    try:
        trial = TrialSpec.from_flat({**fixed, **recipe, **row.set})
        trial.net.check_image(*trial.train.sides(image))
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    for path in row.set:
        if path not in trial.flat():
            raise InputError(f"{where}: {path} has no effect on this network; remove it")
    return trial


def check_alone(
    space: Mapping[str, Any], start: Sequence[Any], fixed: Mapping[str, Any], search: SearchSpec, limits: LimitSpec
) -> None:
    """Refuses what belongs to a search, in a study that compares given configurations."""
    for name, given, why in (
        ("space", space, "what is compared is given"),
        ("start", start, "what is compared is given"),
        ("limits", limits != LimitSpec(), "every row is trained"),
    ):
        if given:
            raise InputError(f"{name} and compare exclude each other, for {why}; remove one of them")
    for name in SearchSpec.model_fields:
        value = getattr(search, name)
        error_alone = name == "objectives" and len(value) == 1  # by which the finals compare
        if name in STILL_USED or error_alone or value == getattr(SearchSpec(), name):
            continue
        remedy = "set finals.time_budget instead" if name in BUDGETS else "leave it out"
        shown = tuple(value) if is_list(value) else search.model_dump(mode="json")[name]
        raise InputError(
            f"search.{name} = {shown} has no effect on a study with compare, which searches nothing; {remedy}"
        )
    if "train.seed" in fixed:
        raise InputError(f"train.seed = {fixed['train.seed']} cannot be set: {SAME_FOR_ALL['train.seed']}")
