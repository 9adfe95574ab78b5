"""The stand-in for a GPU of `stand_in/`, built once."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
PACKAGES = Path(torch.__file__).parents[1]
HEADERS = PACKAGES / "triton/backends/nvidia/include", PACKAGES / "nvidia/cudnn/include"  # they come with torch
RUNTIME = ("card.cpp", "device.cpp", "streams.cpp", "cudnn.cpp", "cublas.cpp")
PRELOADED, DRIVER = "libcard.so", "libcuda.so.1"


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which a process runs on the stand-in."""
    if not torch.version.cuda:
        pytest.skip(f"torch {torch.__version__} has no CUDA")
    if not all(folder.is_dir() for folder in HEADERS):
        pytest.skip("CUDA's headers are not there: they come with Triton and cuDNN")
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    built = tmp_path_factory.mktemp("card")
    build(built, PRELOADED, *RUNTIME)
    build(built, DRIVER, "driver.cpp", f"-Wl,-soname,{DRIVER}")
    loaded = {"LD_PRELOAD": str(built / PRELOADED), "LD_LIBRARY_PATH": str(built)}
    return os.environ | loaded | {"PYTHONPATH": str(HERE.parents[1])}


@pytest.fixture(scope="session")
def card(stand_in: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Runs parts of `on_card.py` in a process of their own; returns what each has found."""

    def run(*parts: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.card.on_card", *parts]
        ran = subprocess.run(command, env=stand_in, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr[-3000:]
        return json.loads(ran.stdout.splitlines()[-1])

    return run


def build(folder: Path, library: str, *arguments: str) -> None:
    headers = [f"-I{folder}" for folder in HEADERS]
    flags = ["-shared", "-fPIC", "-O1", "-std=c++17", "-Wall", "-Werror"]
    subprocess.run(
        ["g++", *flags, *headers, *arguments, "-ldl", "-o", folder / library], cwd=HERE / "stand_in", check=True
    )
