"""Changes to a study before it is validated: what `--set`, flags and the environment ask for."""

from collections.abc import Mapping
from typing import Any

from search.errors import InputError

SECTIONS = ("net", "train")  # of a study, with fixed values


def change(raw: dict[str, Any], where: str, value: Any) -> None:
    """Sets one dotted path of a study; a path that is fixed is no longer searched, and the reverse.

    Raises:
        InputError: the path leads through a value that has no parts.
    """
    section, _, path = where.partition(".")
    if where == "space":
        raw["space"] = dotted(value or {})
        return
    if section == "space" and path:
        field = ".".join(path.split(".")[:2])
        inside = path[len(field) + 1 :]
        fixed = raw.get(field.partition(".")[0])
        if isinstance(fixed, dict):  # searched now, so no longer fixed
            fixed.pop(field.partition(".")[2], None)
        if inside:
            entry = raw["space"].get(field)
            raw["space"][field] = {**(entry if isinstance(entry, dict) else {}), inside: value}
        else:
            raw["space"][field] = value
        return
    if section in SECTIONS and path:  # fixed now, so no longer searched
        raw["space"].pop(where, None)
    if section == "data" and isinstance(raw.get("data"), str):
        raw["data"] = {"name": raw["data"]}
    target = raw
    *parents, last = where.split(".")
    for depth, part in enumerate(parents, 1):
        if target.get(part) is None:  # missing, or an empty section
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise InputError(f"{where} cannot be set: {'.'.join(parents[:depth])} = {target!r} has no parts; set that")
    target[last] = value


def dotted(section: Any) -> dict[str, Any]:
    """`{net: {depth: [..]}}` and `{net.depth: [..]}` as `{"net.depth": [..]}`."""
    if not isinstance(section, Mapping):
        raise InputError(f"space = {section!r} is no mapping; write net.depth: [8, 14, 20]")
    flat: dict[str, Any] = {}
    for key, entry in section.items():
        if key in SECTIONS and isinstance(entry, Mapping):
            flat.update({f"{key}.{name}": value for name, value in entry.items()})
        else:
            flat[str(key)] = entry
    return flat
