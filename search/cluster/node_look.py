"""What a node of a cluster has, seen from the node itself. Travels there whole, for the node may not have this code."""

import hashlib
import importlib.util
import os
import platform
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "ray", "optuna", "mlflow", "numpy")


def look(output: str | None, marker: str, data: str | None) -> dict[str, Any]:
    """Facts about the node on which this runs, as plain data.

    Args:
        output: folder or URL in which the driver has left `marker`; None for one that is not to be looked at.
        marker: name of a file, whose content is its name.
        data: folder of raw data; None for none, or for a URL.
    """
    return {
        "host": socket.gethostname(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "code": _code(),
        "torch_gpus": _gpus(),
        "output": None if output is None else _output(output, marker),
        "data": None if data is None else os.path.isdir(os.path.expanduser(data)),  # noqa: PTH111, PTH112
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _code() -> str:
    """Eight digits that name the files of `resnet` and `search`, as this node would import them."""
    digest = hashlib.sha256()
    for package in ("resnet", "search"):
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            return "none"
        folder = Path(next(iter(found.submodule_search_locations)))
        for file in sorted([*folder.rglob("*.py"), *folder.rglob("*.yaml")]):
            digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def _gpus() -> int:
    """GPUs that torch can use; 0 without torch."""
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray hides all from a task that asks for none
    if importlib.util.find_spec("torch") is None:
        return 0
    import torch  # noqa: PLC0415  this node may have none

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _output(output: str, marker: str) -> str:
    """What is wrong with the output folder here; empty for nothing."""
    try:
        import fsspec  # noqa: PLC0415  likewise

        store, path = fsspec.core.url_to_fs(output)
        if not store.exists(f"{path}/{marker}"):
            return "does not see what the driver writes there"
        with store.open(f"{path}/{marker}-{socket.gethostname()}", "wb") as file:
            file.write(b"")
        store.rm(f"{path}/{marker}-{socket.gethostname()}")
    except Exception as error:  # whatever the store's client raises
        return f"cannot write there ({' '.join(str(error).split())})"
    return ""
