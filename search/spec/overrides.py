"""Changes to a study before it is validated: `--set`, flags, the environment, and `scales:`."""

import re
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, Field

from search.errors import InputError, hint
from search.spec.compare import parsed
from search.spec.plain_yaml import is_list, is_mapping, setting
from search.spec.sections import FIXED_SECTIONS, FROZEN, dotted
from search.spec.trial import TrialSpec

ROWS = "compare"


def change(raw: dict[str, Any], where: str, value: Any) -> None:
    """Sets one dotted path of a study; a path that is fixed is no longer searched, and the reverse.

    `compare` may be a list of names, of the rows that are kept; `compare.ROW.net.depth` is a value of one row.

    Raises:
        InputError: the path leads through a value that has no parts, or to a row that is none.
    """
    section, _, path = where.partition(".")
    if section == ROWS and (path or _names(value)):
        _change_rows(raw, path, value)
        return
    if where == "space":
        raw["space"] = dotted(value or {})
        return
    if section == "space" and path:
        field = ".".join(path.split(".")[:2])
        inside = path[len(field) + 1 :]
        fixed: Any = raw.get(field.partition(".")[0])
        if is_mapping(fixed):  # searched now, so no longer fixed
            raw[field.partition(".")[0]] = {key: one for key, one in fixed.items() if key != field.partition(".")[2]}
        if inside:
            entry = raw["space"].get(field)
            raw["space"][field] = {**(entry if is_mapping(entry) else {}), inside: value}
        else:
            raw["space"][field] = value
        return
    if section in FIXED_SECTIONS and path:  # fixed now, so no longer searched
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


def _names(value: Any) -> bool:
    return is_list(value) and bool(value) and all(isinstance(one, str) for one in value)


def _change_rows(raw: dict[str, Any], path: str, value: Any) -> None:
    """Sets a value of a row by the row's name and the value's path, or keeps the rows that `value` names."""
    rows = parsed(raw.get(ROWS))
    known = [row["name"] for row in rows]
    if path:
        row = next((row for row in rows if path.startswith(f"{row['name']}.")), None)
        if row is None:
            near = hint(re.split(r"[.](net|train)[.]", path)[0], known)
            raise InputError(f"{ROWS}.{path}: no row is named so; {near}")
        row["set"][path.removeprefix(f"{row['name']}.")] = value
    else:
        for name in value:
            if name not in known:
                raise InputError(f"{ROWS}: {name!r} is no row; {hint(name, known)}")
        rows = [row for row in rows if row["name"] in value]
    raw[ROWS] = parsed(rows)


class Scale(BaseModel):
    """How far a study is from its own full recipe."""

    model_config = FROZEN

    name: str | None = Field(description="null where only flags have changed it")
    changed: dict[str, tuple[Any, Any]] = Field(
        description="path -> as published, as run; where rows have several values, lists of them"
    )


def scale(raw: dict[str, Any], name: str) -> None:
    """Changes a study, not yet validated, by one of its scales; its name gets the scale's as an ending.

    Raises:
        InputError: there is no such scale, or it changes what is not there.
    """
    scales: Any = raw.get("scales") or {}
    if not is_mapping(scales):
        raise InputError(f"scales = {scales!r} is no mapping; write scales: {{quick: [train.epochs=3]}}")
    done = _known(raw).get("name")
    if done == name:
        return
    if done is not None:
        raise InputError(f"--scale {name}: this study was begun at scale {done}; begin another from its own file")
    if not scales:
        raise InputError(f"--scale {name}: study {raw['name']!r} has no scales; leave --scale out")
    if name not in scales:
        raise InputError(f"--scale {name} is unknown; {hint(name, [str(one) for one in scales])}")
    if not _names(scales[name]):
        raise InputError(f"scales.{name} = {scales[name]!r} holds no changes; write [train.epochs=10, net.depth=20]")
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
    pairs = {path: tuple(_at(path, side) for side in (recipe, new)) for path in {**recipe, **new}}
    changed = {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}
    name = name or (known.name if known else None)
    return Scale(name=name, changed=changed) if name or changed else None


def _at(path: str, values: Mapping[str, Any]) -> Any:
    """A value, or its default; None for a path that does not exist, which is told later."""
    if path in values or path not in TrialSpec.paths():
        return values.get(path)
    return TrialSpec.default(path, {other: value for other, value in values.items() if not isinstance(value, list)})


def _known(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    known: Any = raw.get("scale") or {}
    if not is_mapping(known):
        raise InputError(f"scale = {known!r} is told by a study that has begun, not given; use --scale {known}")
    return known
