"""Errors in one sentence each, with field, value and remedy."""

from difflib import get_close_matches
from re import findall

from pydantic import ValidationError


def sentence(error: ValidationError, fields: list[str]) -> str:
    """The first thing that is wrong with a network's description; `fields` are the names that it may have."""
    first = error.errors(include_url=False)[0]
    name, value, limits = ".".join(map(str, first["loc"])), first["input"], first.get("ctx", {})
    match first["type"]:
        case "value_error":
            return str(limits["error"])
        case "extra_forbidden":
            return f"net has no field {name!r}; {hint(name, fields)}"
        case "enum":
            known = findall(r"'(\w+)'", limits["expected"])  # pydantic: "'zero_pad' or 'projection'"
            return f"net {name} {value!r} is unknown; {hint(str(value), known)}"
        case _:
            remedy = first["msg"].removeprefix("Input ")  # pydantic: "Input should be greater than 0"
            return f"{' '.join(filter(None, ['net', name]))} {value!r} is not valid; it {remedy}"


def hint(word: str, known: list[str]) -> str:
    """The remedy for an unknown word: its near miss, else the words that are known."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
