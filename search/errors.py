"""What a user can mend, in one sentence each, without secrets: bad input, and surroundings that fail.

A URL keeps them before its last @, or in its query. What is a URL is parsed. In a text of others, such as a driver's
error, the secrets of the URLs that it is about are looked for by value.
"""

import errno
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast
from urllib.parse import quote, quote_plus, unquote, unquote_plus

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
    near = get_close_matches(str(value), known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(sorted(known))}"


HIDDEN = "***"
_SECRET_NAMES = re.compile(
    r"passw|passphrase|pwd|token|secret|credential|signature|apikey|accesskey|accountkey|privatekey|odbcconnect"
    r"|^(pass|auth|sig|key|sas)$"
)
# Of these SQLAlchemy takes a slash for a part of the password; elsewhere host:5000/a@b has none.
_DATABASES = {"postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle", "cockroachdb", "redis", "mongodb"}
_BEFORE_SCHEME = re.compile(r".*[^A-Za-z0-9+.-]", re.DOTALL)  # `--flag=`, `npz:`
_IS_URL = re.compile(r"\S+://")
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`]*")
_BETWEEN_PARTS = re.compile(r"[@/?#:;&=\s]+")
_SHORTEST = 3  # characters; shorter ones are in every text


@dataclass(frozen=True)
class _Parted:
    """A URL without its secrets, and them."""

    public: str
    secrets: tuple[str, ...] = ()


def public(url: str) -> str:
    """A URL, whatever is in it, without user name, password and secrets in its query; other text as it is."""
    return _parted(url).public


def without_credentials(text: str, *urls: str | None) -> str:
    """A text without the credentials of the URLs in it, and without what is secret in `urls`, wherever it stands."""
    for url in urls:
        if url and (parted := _parted(url)).secrets:
            for spelled in _spellings(url):
                text = text.replace(spelled, parted.public)
            for secret in sorted(_all_spellings(parted.secrets), key=len, reverse=True):
                text = text.replace(secret, HIDDEN)
    return _IN_TEXT.sub(lambda found: public(found[0]), text)


def redacted(value: Any) -> Any:
    """A nested value with every URL in it as `public` shows it."""
    match value:
        case str():
            return public(value) if _IS_URL.match(value) else without_credentials(value)
        case Mapping():
            return {key: redacted(entry) for key, entry in cast(Mapping[Any, Any], value).items()}
        case list() | tuple():
            return [redacted(entry) for entry in cast(Sequence[Any], value)]
        case _:
            return value


def _parted(url: str) -> _Parted:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _Parted(url)
    secrets: list[str] = []
    kind = _BEFORE_SCHEME.sub("", scheme).partition("+")[0].lower()
    end = _credentials_end(kind, rest)
    if end:
        _, colon, password = rest[: end - 1].partition(":")
        secrets.append(password if colon else rest[: end - 1])
    address, mark, fragment = rest[end:].partition("#")
    path, _, query = address.partition("?")
    kept, found = _kept(query)
    secrets += found
    if found and query.rpartition("&")[2] not in kept[-1:]:  # the last one may have gone on behind a number sign
        secrets += [fragment] if fragment else []
        mark, fragment = "", ""
    within, question, asked = fragment.rpartition("?")
    shown, found = _kept(asked)
    secrets += found
    fragment = within + (question if shown or not found else "") + "&".join(shown) if found else fragment
    if not secrets:
        return _Parted(url)
    return _Parted(
        f"{scheme}://{path}{'?' if kept else ''}{'&'.join(kept)}{mark}{fragment}", tuple(filter(None, secrets))
    )


def _credentials_end(kind: str, rest: str) -> int:
    """How many characters after :// are credentials and their @."""
    name, at, _ = rest.partition("@")
    if not at:
        return 0
    user, colon, password = name.partition(":")
    in_path = bool(re.search(r"[/?#]", user))
    port = re.match(r"\d*[/?#]", password) and kind not in _DATABASES
    if in_path or (colon and port):
        return 0  # an @ in the path
    if colon:  # an @, a slash or a question mark that follows may be of the password
        return rest.rindex("@") + 1
    return len(name) + 1 if kind in {"http", "https"} else 0  # a token; elsewhere a user or a container: no secret


def _kept(query: str) -> tuple[list[str], list[str]]:
    """Of a query: the pairs that may be shown, and the values that may not."""
    kept: list[str] = []
    secrets: list[str] = []
    hidden = False
    for pair in query.split("&") if query else []:
        name, equals, value = pair.partition("=")
        if equals:
            hidden = bool(_SECRET_NAMES.search(re.sub(r"[^a-z]", "", unquote_plus(name).lower())))
        elif hidden:  # a value that has an & in it goes on
            value = pair
        if hidden:
            secrets.append(value)
        else:
            kept.append(pair)
    return kept, secrets


def _all_spellings(secrets: tuple[str, ...]) -> set[str]:
    """As they stand in texts; also their parts: a driver takes them for a host where an @ was not encoded."""
    whole = {plain for secret in secrets for plain in (secret, unquote(secret))}
    parts = {part for secret in whole for part in (secret, *_BETWEEN_PARTS.split(secret))}
    return {spelled for part in parts for spelled in _spellings(part) if len(spelled) >= _SHORTEST}


def _spellings(text: str) -> set[str]:
    return {
        *(text, unquote(text), quote(text), quote(text, safe=""), quote_plus(text)),
        *(repr(text)[1:-1], json.dumps(text)[1:-1], " ".join(text.split())),
    } - {""}
