"""Every key of a study's file, from its JSON Schema: `python docs/study_table.py > docs/study.md`."""

import json
from collections.abc import Iterator
from typing import Any

from search.spec import schema

HEAD = """# Every key of a study

A study is a file of YAML. Nothing has to be given but what is searched (`space`) or compared (`compare`): the rest has
the defaults below. `python -m search.run STUDY --dry-run --verbose` prints a study with all of them, and
`--set KEY=VALUE` sets one of them for this run.

After `python -m search.run --schema > schema.json` an editor with the YAML language server completes and checks a file
that begins with `# yaml-language-server: $schema=schema.json`.
"""
SEARCHED = """In `space` every key of `net` and `train` but `train.epochs` may be searched, under its path:

```yaml
space:
  net.depth: [8, 14, 20]                               # choices
  train.lr: {low: 0.02, high: 0.5, log: true}          # a range; also with step
  net.gate_bias: {choices: [-6, -3], when: {net.shortcut: [exclusive_gate]}}   # only where it has an effect
```
"""
WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "word",
    "boolean": "true, false",
    "object": "keys",
    "null": "null",
}
PARTS = ("net", "train", "data", "limits", "latency", "search", "finals", "resources", "tracking")
SCHEMA = schema()


def resolved(field: dict[str, Any]) -> dict[str, Any]:
    """With what its reference leads to."""
    name = field.get("$ref", "").removeprefix("#/$defs/")
    return {**resolved(SCHEMA["$defs"][name]), **field} if name else field


def kind(field: dict[str, Any]) -> str:
    """The type of a key in words: its choices, or what is allowed."""
    field = resolved(field)
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        kinds = list(dict.fromkeys(kind(one) for one in field["anyOf"] if one.get("type") != "null"))
        if kinds[-1] == f"list of {' or '.join(kinds[:-1])}":
            return f"{' or '.join(kinds[:-1])}; or a list of these"
        return " or ".join(kinds)
    if field.get("type") == "array":
        return f"list of {kind(field['items'])}" if field.get("items") else "list"
    return WORDS[field.get("type", "object")]


def default(field: dict[str, Any]) -> str:
    """As YAML; nothing where it is in the meaning, or where there is none."""
    value = resolved(field).get("default")
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return "" if value in (None, "", [], {}) or isinstance(value, dict) else f"`{json.dumps(value).strip(chr(34))}`"


def table(fields: dict[str, Any], section: str = "") -> Iterator[str]:
    """A row for each key."""
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in fields.items():
        meaning = resolved(field).get("description", "")
        yield f"| `{section}{name}` | {kind(field)} | {default(field)} | {meaning} |".replace("  ", " ")
    yield ""


def lines() -> Iterator[str]:
    """Of docs/study.md."""
    keys: dict[str, Any] = SCHEMA["properties"]
    yield HEAD
    yield from table({name: field for name, field in keys.items() if name != "scale"})
    for name in PARTS:
        field = resolved(next((one for one in keys[name].get("anyOf", ()) if "$ref" in one), keys[name]))
        yield f"## {name}\n"
        yield from table(field["properties"], f"{name}.")
    yield f"## space\n\n{SEARCHED}"
    for name, words in (("Row", "## compare: the keys of a row"), ("Former", "## start: the best of another study")):
        yield f"{words}\n"
        yield from table(SCHEMA["$defs"][name]["properties"])


if __name__ == "__main__":
    print("\n".join(lines()).rstrip())
