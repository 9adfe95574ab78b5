"""The JSON Schema of a study's file, by which editors complete and check it."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from resnet.spec import NetSpec
from search.spec.space import FROM_DATA, SIZE
from search.spec.study import PREPARED_SIZE, StudySpec
from search.spec.trial import TrainSpec, TrialSpec

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
_SECTIONS: tuple[tuple[str, type[NetSpec | TrainSpec]], ...] = (("net", NetSpec), ("train", TrainSpec))


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # they would only be the names again


def schema() -> Schema:
    """What a study's file may hold.

    It knows keys, types and single values. That a network can be built, and that values go together, is only known to
    `StudySpec` and `Space.check`.
    """
    made = StudySpec.model_json_schema(schema_generator=_Untitled)
    definitions, keys = made["$defs"], made["properties"]
    for definition in definitions.values():
        definition.pop("description", None)  # for readers of the code
    values, searched = dict[str, Schema](), dict[str, Schema]()
    for section, model in _SECTIONS:
        fields = model.model_json_schema(schema_generator=_Untitled)
        definitions |= fields.get("$defs", {})
        for name, field in fields["properties"].items():
            path = f"{section}.{name}"
            if path not in FROM_DATA:
                definitions[path], values[path] = field, _of(path)
                definitions[f"space.{path}"], searched[path] = _searched(path, field), _of(f"space.{path}")
    del searched["train.epochs"]  # the budget of every trial
    definitions["when"] = _object({path: {} for path in values}, "path -> values under which it has an effect")
    for section, _ in _SECTIONS:
        keys[section] = _object(_inside(section, values), keys[section]["description"])
    sides = {"anyOf": definitions[f"space.{SIZE}"]["anyOf"][:2], "description": "of images, in pixels"}
    data = {PREPARED_SIZE: sides, "data": _object({"image_size": sides})}
    keys["space"] = _object({**_nested(searched, "")["properties"], **data}, keys["space"]["description"])
    definitions["start"] = {"anyOf": [{"type": "string"}, _of("Former"), _nested(values, "")]}
    entries = [_of("start"), {"type": "array", "items": _of("start")}]
    keys["start"] = {"anyOf": entries, "description": keys["start"]["description"]}
    row = definitions["Row"]["properties"]
    row["set"] = _nested(values, row["set"]["description"])
    del made["required"], made["description"]  # the name is that of the file
    return {"$schema": DRAFT, **made, "title": "study.yaml"}


def _searched(path: str, field: Schema) -> Schema:
    """Choices, or the range of a number."""
    choices: Schema = {"type": "array", "items": _of(path), "minItems": 1}
    kinds = [choices, {**_object({"choices": choices, "when": _of("when")}), "required": ["choices"]}]
    if TrialSpec.types()[path] in (int, float):
        rest = {"step": {"type": "number"}, "log": {"type": "boolean"}, "when": _of("when")}
        kinds.append({**_object({"low": _of(path), "high": _of(path), **rest}), "required": ["low", "high"]})
    return {"anyOf": kinds, "description": field.get("description", "")}


def _of(definition: str) -> Schema:
    return {"$ref": f"#/$defs/{definition}"}


def _nested(fields: dict[str, Schema], description: str) -> Schema:
    """Values by dotted path, or by section and name."""
    return _object({**fields, **{name: _object(_inside(name, fields)) for name, _ in _SECTIONS}}, description)


def _inside(section: str, fields: dict[str, Schema]) -> dict[str, Schema]:
    start = f"{section}."
    return {path.removeprefix(start): field for path, field in fields.items() if path.startswith(start)}


def _object(properties: dict[str, Schema], description: str = "") -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False, "description": description}
