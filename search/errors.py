"""What a user can mend: bad input, told before anything runs, and surroundings that fail while it does."""

import errno

_CANNOT_WRITE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "make room",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EIO: "see to the disk",
}


class InputError(ValueError):
    """Bad input, told in one sentence that names the field, its value and the remedy."""

    def __init__(self, sentence: str) -> None:
        super().__init__(_printable(sentence))


class Halted(Exception):  # noqa: N818 - the study has no error, and goes on when it can
    """The study cannot go on until something outside of it is mended; a clause that says what, and how."""

    def __init__(self, clause: str) -> None:
        super().__init__(_printable(clause))

    @property
    def sentence(self) -> str:
        """As the user is told."""
        return f"error: {self}, and run the same command again: it continues"


def _printable(sentence: str) -> str:
    """One line, whatever is quoted in it: names of files may hold line breaks and what controls a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(sentence.splitlines()))


def halt(error: OSError, where: object) -> Halted | None:
    """The clause for a place that cannot be written, such as a full disk; None for any other error."""
    remedy = _CANNOT_WRITE.get(error.errno or 0)
    return Halted(f"{error.filename or where} cannot be written ({error.strerror}); {remedy}") if remedy else None


def first_line(error: BaseException, otherwise: str | None = None) -> str:
    """Of what an error says; where it says nothing `otherwise`, or the name of its kind."""
    return (str(error).strip().splitlines() or [otherwise or type(error).__name__])[0]


def hint(value: object, known: "list[str] | tuple[str, ...]") -> str:
    """`did you mean ...` for a near miss, else the list of what is known."""
    from difflib import get_close_matches

    near = get_close_matches(str(value), known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(sorted(known))}"
