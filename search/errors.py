"""The one exception for input that a user can mend."""


class InputError(ValueError):
    """Bad input, told in one sentence that names the field, its value and the remedy."""


def hint(value: object, known: "list[str] | tuple[str, ...]") -> str:
    """`did you mean ...` for a near miss, else the list of what is known."""
    from difflib import get_close_matches

    near = get_close_matches(str(value), known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(sorted(known))}"
