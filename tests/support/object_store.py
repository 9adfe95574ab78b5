"""An object store for tests: moto's S3 server, a process of its own on loopback, spoken to over HTTP as any other."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from search.storage import Remote
from tests.support.mlflow_server import end_group, free_port, wait_until

BUCKET = "studies"


@contextmanager
def object_store(folder: Path) -> Iterator[str]:
    """While it is entered: the URL of an empty bucket, which this process and those that it starts can reach."""
    port = free_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with (folder / "store.log").open("wb") as log, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)],
            env=os.environ, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            wait_until(lambda: _listens(port), "the object store's start", 60)
            fsspec.get_filesystem_class("s3").clear_instance_cache()  # those know the store of another test
            fsspec.filesystem("s3", skip_instance_cache=True).mkdir(BUCKET)
            yield f"s3://{BUCKET}"
        finally:
            end_group(server)


def at_url(folder: Path, url: str) -> Remote:
    """Puts the records of a study in `folder` to `url`, as a study that is kept there has them."""
    place = Remote(url)
    for file in folder.iterdir():
        data = file.read_bytes() if file.is_file() else b""
        if file.suffix == ".journal":
            place.put(f"{file.name}/{0:012d}-{len(data):012d}", data)
        elif data and not file.name.startswith("."):
            place.put(file.name, data)
    return place


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
