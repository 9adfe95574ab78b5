"""No secret of a URL is shown, however it is written; what has none is left as it is."""

import json
import os
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from search.errors import HIDDEN, public, without_credentials
from search.spec import load
from tests.support.fixtures import alone, refusal  # noqa: F401

URLS = {
    "postgresql://ana:TOPSECRET@db/x": "postgresql://db/x",
    "postgresql+psycopg://ana:TOP@SECRET@db:5432/x": "postgresql+psycopg://db:5432/x",
    "postgresql://ana:TOP/SE?C#R:ET@db/x": "postgresql://db/x",
    "postgresql://ana:12/34@db/x": "postgresql://db/x",
    'mysql://ana:TOP SECRET\'S "own"@db/x': "mysql://db/x",
    "mysql://ana:TOP%40SECRET@db/x": "mysql://db/x",
    "mysql://:TOPSECRET@db/x": "mysql://db/x",
    "postgresql://db/x?user=ana&password=TOPSECRET&sslmode=require": "postgresql://db/x?user=ana&sslmode=require",
    "postgresql://db/x?password=TOP&SECRET&sslmode=require": "postgresql://db/x?sslmode=require",
    "postgresql://db/x?password=TOP#SECRET": "postgresql://db/x",
    "postgresql://db/x?sslpassword=TOPSECRET": "postgresql://db/x",
    "postgresql://db/x?Pass%77ord=TOPSECRET": "postgresql://db/x",
    "mssql+pyodbc://?odbc_connect=DRIVER%3D%7BX%7D%3BPWD%3DTOPSECRET": "mssql+pyodbc://",
    "https://TOPSECRET@mlflow.example.org/path": "https://mlflow.example.org/path",
    "https://ana:TOP@SECRET@mlflow.example.org:443/path": "https://mlflow.example.org:443/path",
    "https://h/x?token=TOPSECRET": "https://h/x",
    "https://h/x?access_token=TOPSECRET&a=1#part": "https://h/x?a=1#part",
    "https://h/x?X-Amz-Signature=TOPSECRET&X-Amz-Date=1": "https://h/x?X-Amz-Date=1",
    "https://h.blob.example/c?sv=1&sig=TOP%2FSECRET": "https://h.blob.example/c?sv=1",
    "https://h/#/runs?token=TOPSECRET&a=1": "https://h/#/runs?a=1",
    "s3://KEY:TOPSECRET@bucket/results": "s3://bucket/results",
    "s3://bucket/results?access_key=TOPSECRET": "s3://bucket/results",
    "npz:https://ana:TOPSECRET@h/x.npz": "npz:https://h/x.npz",
}
WITHOUT = [
    *("", "results", "a@b.example", "sqlite:////home/ana@work/x.db", "sqlite:///x.db", "file:///a:b@c"),
    *("https://h:5000/ana@work/x", "s3://bucket/ana@work?version=3", "http://h/#/runs?viewStateShareKey=a"),
    *("abfs://container@account.dfs.core.windows.net/x", "sftp://ana@host/x", "hdfs://host:8020/a:b@c", "x: y@z"),
    *("postgresql://db/x?sslmode=require#", "https://h/?", "keys: 12, tokens: 3, password=5"),
]
secret = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1)
places = st.sampled_from(["db", "db.example.org:5432", "127.0.0.1", "[::1]:80"])


@pytest.mark.parametrize(("url", "shown"), URLS.items(), ids=list(URLS.values()))
def test_a_url_without_its_secrets(url: str, shown: str) -> None:
    assert public(url) == shown
    error = f"(driver) cannot connect to {url}: bad value {url!r}, {json.dumps(url)}, {quote(url)}"
    told = without_credentials(error, url)
    assert shown in told
    assert not [part for part in ("TOP", "SECRET", "SE?C", "12/34", "own") if part in told]


def test_what_a_driver_makes_of_an_address() -> None:
    """Text of psycopg and of Python, for a password whose signs were not encoded."""
    url = "postgresql://ana:TOP@SECRET:HIDDEN/WORD@db/x"
    for error in (
        'could not translate host name "SECRET" to address',
        "invalid literal for int() with base 10: 'HIDDEN'",
        'database "WORD@db/x" does not exist',
        'role "TOP@SECRET:HIDDEN/WORD" is not there',
    ):
        told = without_credentials(error, url)
        assert told.split()[0] == error.split()[0]
        assert not [part for part in ("TOP", "SECRET", "WORD") if part in told]


@pytest.mark.parametrize("text", WITHOUT)
def test_what_has_no_secret_stays(text: str) -> None:
    assert public(text) == text
    assert without_credentials(text, text) == text
    assert without_credentials(f"cannot open {text}", text) == f"cannot open {text}"


@given(secret, places)
@example("12/", "db")
@example("@", "db")
@example("?password=", "db")
def test_a_password_before_the_host(password: str, place: str) -> None:
    assert public(f"postgresql://ana:{password}@{place}/x?sslmode=require") == f"postgresql://{place}/x?sslmode=require"
    assume(not password.lstrip("0123456789").startswith(("/", "?", "#")))  # in http, a port and a path
    assert public(f"https://ana:{password}@{place}/x") == f"https://{place}/x"
    assert public(f"s3://ana:{password}@{place}/x") == f"s3://{place}/x"


@given(secret, places, st.sampled_from(["password", "sslpassword", "token", "access_key", "secret", "sig", "api-key"]))
def test_a_secret_in_the_query(value: str, place: str, name: str) -> None:
    assert public(f"postgresql://{place}/x?a=1&{name}={quote(value)}&b=2#c") == f"postgresql://{place}/x?a=1&b=2#c"
    assert public(f"https://{place}/x?{name}={quote_plus(value)}") == f"https://{place}/x"
    assume("=" not in value and not ("@" in value and ":" in place))
    assert public(f"https://{place}/x?a=1&{name}={value}") == f"https://{place}/x?a=1"


@given(secret.filter(lambda s: len(s) >= 3), st.sampled_from([str, quote, quote_plus, repr, json.dumps]))
def test_a_known_secret_in_a_text_of_others(password: str, spelled: "type[str]") -> None:
    """`#` stands for the password in what surrounds it, so that a password such as `url` is not found there."""
    url = f"postgresql://ana:{password}@db/x"
    before, after = "\x01\x02", "\x03\x04"
    assume(not set(password) & set(before + after))
    text = without_credentials(f"{before}{spelled(password)}{after}{spelled(url)}{after}", url)
    assert password not in text.replace(HIDDEN, "") or password in "postgresql://db/x"
    assert text.startswith(before)


@given(st.text(st.characters(exclude_characters=":")))
def test_a_text_without_urls_stays(text: str) -> None:
    assert without_credentials(text) == text == public(text)
    assert without_credentials(text, "s3://bucket/a@b", None) == text


NASTY = "postgresql://ana:TOP@SEC RET'S@127.0.0.1:1/x?sslpassword=TOP2"


def test_a_study_with_secrets_is_kept_without_them(tmp_path: Path) -> None:
    """Its file, and what MLflow gets as parameters; what is left is still the study."""
    file = tmp_path / "secret.yaml"
    tracking = {"uri": "https://mlflow.example.org/?token=TOP3"}
    data = {"name": "cifar10", "dir": "s3://KEY:TOP4@bucket/data"}
    raw = {"description": "see https://ana:TOP5@h/x", "search": {"storage": NASTY}, "tracking": tracking, "data": data}
    file.write_text(yaml.safe_dump(raw))
    spec = load(file)
    assert (spec.search.storage, spec.tracking.uri, spec.data.dir) == (NASTY, tracking["uri"], data["dir"])
    kept = spec.to_yaml()
    assert not [part for part in ("TOP", "SEC", "RET", "KEY") if part in kept + str(spec.flat())]
    file.write_text(kept)
    again = load(file)
    assert again.search.storage == "postgresql://127.0.0.1:1/x"
    assert (again.tracking.uri, again.data.dir) == ("https://mlflow.example.org/", "s3://bucket/data")
    assert again.to_yaml() == kept


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--storage", NASTY],
        ["--tracking-uri", NASTY],
        ["--tracking-uri", "http://ana:TOP@SEC RET'S@127.0.0.1:1?token=TOP2"],
        ["--data-dir", "nothing://ana:TOP@SEC RET'S@h/x", "--set", "data.name=cifar10"],
        ["--output", "ftp://ana:TOP@SEC RET'S@h/x"],
        ["--output", "s3://bucket/x?secret=TOP"],
        ["--address", "http://ana:TOP@SEC RET'S@127.0.0.1:1"],
        ["--address", "http://127.0.0.1:1", "--storage", NASTY],
        ["--set", "traking={uri: 'http://ana:TOP@SEC RET@h/x'}"],
        ["--set", "tracking.url=http://ana:TOP@SECRET@h/x"],
        ["--traking-uri=http://ana:TOP@SECRET@h/x"],
    ],
    ids=lambda arguments: " ".join(arguments[:1]),
)
def test_no_refusal_shows_a_secret(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        told = refusal(arguments, capsys)
    finally:
        os.environ.pop("RAY_ADDRESS", None)
    assert not [part for part in ("TOP", "SEC RET", "RET'S", "RET@") if part in told], told
