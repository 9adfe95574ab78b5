"""Changes to a study before it is validated: `--set`, flags, the environment, and `scales:`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel, Field

from search.errors import InputError, hint
from search.spec.compare import parsed
from search.spec.plain_yaml import is_list, is_mapping, setting
from search.spec.sections import FROZEN, SEARCHED_SECTIONS, dotted
from search.spec.trial import TrialSpec

ROWS = "compare"


def change(raw: dict[str, Any], where: str, value: Any) -> None:
    """Sets one dotted path of a study; a path that is fixed is no longer searched, and the reverse.

    `compare` may be a list of names, of the rows that are kept; `compare.ROW.net.depth` is a value of one row.
    """
    section, _, path = where.partition(".")
    if section == ROWS and (path or (is_list(value) and value and all(isinstance(one, str) for one in value))):
        _change_rows(raw, path, value)
        return
    if where == "space":
        raw["space"] = dotted(value or {})
        return
    if section == "space" and path:
        part, _, rest = path.partition(".")
        name, _, inside = rest.partition(".")
        field = f"{part}.{name}" if rest else part
        fixed: Any = raw.get(part)
        if is_mapping(fixed):  # searched now, so no longer fixed
            raw[part] = {key: one for key, one in fixed.items() if key != name}
        entry = raw["space"].get(field)
        raw["space"][field] = {**(entry if is_mapping(entry) else {}), inside: value} if inside else value
        return
    if section in SEARCHED_SECTIONS and path:  # fixed now, so no longer searched
        raw["space"].pop(where, None)
    if section == "data" and isinstance(raw.get("data"), str):
        raw["data"] = {"name": raw["data"]}
    target = raw
    *parents, last = where.split(".")
    for depth, part in enumerate(parents, 1):
        inner: Any = target.get(part)
        if inner is None:  # missing, or an empty section
            inner = dict[str, Any]()
        if not isinstance(inner, dict):
            raise InputError(f"{where} cannot be set: {'.'.join(parents[:depth])} = {inner!r} has no parts; set that")
        target[part] = target = cast(dict[str, Any], inner)
    target[last] = value


def _change_rows(raw: dict[str, Any], path: str, value: Any) -> None:
    """Sets a value of a row by the row's name and the value's path, or keeps the rows that `value` names."""
    rows = parsed(raw.get(ROWS))
    known = [row.name for row in rows]
    if path:
        name = next((name for name in known if path.startswith(f"{name}.")), None)
        if name is None:
            near = hint(re.split(r"[.](net|train)[.]", path)[0], known)
            raise InputError(f"{ROWS}.{path}: no row is named so; {near}")
        changed = {path.removeprefix(f"{name}."): value}
        rows = [row.model_copy(update={"set": row.set | changed}) if row.name == name else row for row in rows]
    else:
        for name in value:
            if name not in known:
                raise InputError(f"{ROWS}: {name!r} is no row; {hint(name, known)}")
        rows = [row for row in rows if row.name in value]
    raw[ROWS] = parsed(rows)


class Scale(BaseModel):
    """How far a study is from its own full recipe."""

    model_config = FROZEN

    name: str | None = Field(description="null where only flags have changed it")
    changed: dict[str, tuple[Any, Any]] = Field(
        description="path -> as published, as run; where rows have several values, lists of them"
    )


def scale(raw: dict[str, Any], name: str, scales: Mapping[str, Sequence[str]], begun: Scale | None) -> None:
    """Changes a study, not yet validated, by one of its scales; its name gets the scale's as an ending."""
    if begun is not None and begun.name is not None:
        if begun.name != name:
            raise InputError(
                f"--scale {name}: this study was begun at scale {begun.name}; begin another from its own file"
            )
        return
    if not scales:
        raise InputError(f"--scale {name}: study {raw['name']!r} has no scales; leave --scale out")
    if name not in scales:
        raise InputError(f"--scale {name} is unknown; {hint(name, list(scales))}")
    for text in scales[name]:
        change(raw, *setting(text, f"scales.{name}: {text}"))
    raw["name"] = f"{raw['name']}-{name}"


def record(old: Mapping[str, Any], new: Mapping[str, Any], known: Scale | None, name: str | None) -> Scale | None:
    """How far a study is from its recipe; None where nothing differs.

    Args:
        old: what decides about the numbers that come out, before the study was changed.
        new: the same now.
        known: how far it was before, when it was begun.
        name: of the scale that changed it.
    """
    recipe = {**old, **({path: pair[0] for path, pair in known.changed.items()} if known else {})}
    pairs = {path: (_at(path, recipe), _at(path, new)) for path in {**recipe, **new}}
    changed = {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}
    name = name or (known.name if known else None)
    return Scale(name=name, changed=changed) if name or changed else None


def _at(path: str, values: Mapping[str, Any]) -> Any:
    """A value, or its default; None for a path that does not exist, which is refused later."""
    if path in values or path not in TrialSpec.paths():
        return values.get(path)
    return TrialSpec.default(path, {other: value for other, value in values.items() if not isinstance(value, list)})
