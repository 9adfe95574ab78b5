"""This machine: its hardware and versions in words, its memory, its usable cores, and how a process takes signals."""

import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from search import __version__

CPUINFO = Path("/proc/cpuinfo")
NAMED = ("torch", "torchvision", "ray", "optuna", "mlflow")


def versions() -> dict[str, str]:
    """Python and the packages that results depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in NAMED}


@cache
def software() -> dict[str, str]:
    """What the workers of a cluster must have in common with the driver; `this code` is a digest of the project."""
    digest, project = hashlib.sha256(), Path(__file__).parent.parent
    for package in (project / "resnet", project / "search"):
        for file in sorted([*package.rglob("*.py"), *package.rglob("*.yaml")]):
            digest.update(str(file.relative_to(project)).encode() + file.read_bytes())
    every = versions()
    return {name: every[name] for name in ("python", "torch", "ray")} | {"this code": digest.hexdigest()[:8]}


def provenance() -> dict[str, str]:
    """What this process runs: `version` of the project, the `command`, and the git `commit` where it is a checkout.

    A commit with changes that are not in it ends with `-dirty`.
    """
    project, words = Path(__file__).parent.parent, sys.orig_argv[1:]
    if not words or words[0].startswith("-"):
        words = ["python", *words]
    words[0] = Path(words[0]).name  # of a script, wherever it is installed
    found = {"version": __version__, "command": shlex.join(words)}
    if (project / ".git").exists() and shutil.which("git"):
        asked = ["git", "-C", str(project), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        described = subprocess.run(asked, capture_output=True, text=True, check=False)
        if described.returncode == 0:
            found["commit"] = described.stdout.strip()
    return found


def hardware() -> str:
    """The driver's machine, such as `2 cores of AMD EPYC, no GPU`."""
    import torch  # noqa: PLC0415  who counts cores or reads the memory does not wait for it

    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    counted = [f"{cards.count(card)} x {card}" for card in dict.fromkeys(cards)]
    processor = of_processor("model name") or platform.processor() or platform.machine()
    return f"{usable()} cores of {processor}, {', '.join(counted) or 'no GPU'}"


def of_processor(name: str, information: Path = CPUINFO) -> str | None:
    """What the first processor has under `name` in a file like Linux' /proc/cpuinfo; None where it has nothing."""
    lines = information.read_text().splitlines() if information.exists() else []
    entries = ((key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in lines))
    return next((value for key, value in entries if key == name), None)


# What the control groups of Linux allow this container, version 2 and version 1; a number, or a word for no limit.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def total() -> int:
    """Bytes that could be taken at most, if nothing else took any."""
    limits = [path.read_text().strip() for path in _LIMITS if path.is_file()]
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *(int(limit) for limit in limits if limit.isdecimal())])


def signal_handlers(numbers: Iterable[int]) -> dict[int, Any]:
    """How this process takes signals, by number; {} on a thread that may not change it, and for those of no Python."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: handler for number in numbers if (handler := signal.getsignal(number)) is not None}


def usable() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
