"""YAML that a user has written, read as plain data: bounded in size and depth, without references, each key once."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeGuard, cast

import yaml
from yaml.constructor import ConstructorError

from search.errors import InputError

LONGEST = 2**18  # bytes: the largest shipped study has four thousand
DEEPEST = 32  # lists and mappings within each other: a study has six
LARGEST = 2**63  # of whole numbers: what Optuna, MLflow and torch can hold
# Dates stay words, since no field is one. `<<` and `=` are of no use without references.
_NOT_READ = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("timestamp", "merge", "value"))


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether plain data is a mapping, of whatever."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether plain data is a list, of whatever."""
    return isinstance(value, list | tuple)


class _Loader(yaml.SafeLoader):
    """Refuses what makes a short text large, deep or ambiguous."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        first: [(tag, pattern) for tag, pattern in rules if tag not in _NOT_READ]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = cast(Any, self.peek_event())  # pyright: ignore[reportUnknownMemberType]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refused(event, f"&{event.anchor} and *{event.anchor} are not read: write the value where it is used")
        if getattr(event, "tag", None) is not None:
            raise _refused(event, f"the tag {event.tag!r} is not read: leave it out")
        if self._depth == DEEPEST:
            raise _refused(event, f"more than {DEEPEST} lists or mappings stand within each other")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        known: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | None):
                raise _refused(key_node, "a key is a list or a mapping: write a word")
            if key in known:
                raise _refused(key_node, f"{key!r} is given twice, first in line {known[key]}: remove one")
            known[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = cast(Any, super().construct_object(node, deep))  # pyright: ignore[reportUnknownMemberType]
        except ValueError:  # thousands of digits, or none after 0x
            raise _refused(node, f"{node.value[:20]!r} is no number: correct it") from None
        if isinstance(value, int) and abs(value) >= LARGEST:
            raise _refused(node, f"{node.value[:20]!r} has more than 64 bits: write a smaller number")
        return value


def _refused(at: Any, why: str) -> ConstructorError:
    return ConstructorError(None, None, why, at.start_mark)


def parse(text: str) -> Any:
    """What a text of YAML says: None, words, numbers, lists and mappings of them.

    Raises:
        yaml.YAMLError: it is no YAML, or more than plain data; one line that says where, and why.
    """
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"it has more than {LONGEST} bytes")
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        why = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise yaml.YAMLError(f"{where}{why}") from None
    except yaml.reader.ReaderError as error:
        raise yaml.YAMLError(f"it holds the character U+{error.character:04X}, which is no text") from None


def read(path: Path) -> Any:
    """What a file of YAML in UTF-8 says.

    Raises:
        yaml.YAMLError: see `parse`, or it is not in UTF-8.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise yaml.YAMLError(f"it has more than {LONGEST} bytes")
    try:
        return parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise yaml.YAMLError("it is not in UTF-8: save it as UTF-8") from None


def setting(text: str, where: str) -> tuple[str, Any]:
    """Key and value of a text such as `train.lr=0.1`; `where` names the text to its writer.

    Raises:
        InputError: there is no `=`, or the value is no YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{where} has no `=`; write KEY=VALUE, such as train.lr=0.1")
    try:
        return key.strip(), parse(value)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: cannot be read ({error}); write a number, a word or a [list]") from None


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump(data: Any) -> str:
    """Plain data as YAML that `parse` reads; what occurs twice is written twice."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
