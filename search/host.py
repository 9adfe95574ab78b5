"""Where trials run: a Ray of our own on this machine, bound to loopback, or the cluster that RAY_ADDRESS names."""

import gc
import math
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from search import capacity, cores
from search.errors import Halted, InputError, first_line
from search.study_sections import ResourceSpec, SearchSpec

if TYPE_CHECKING:
    from types import ModuleType

OBJECT_STORE = 128 * 2**20  # bytes; images go through files and page cache, never through Ray's object store
_ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours leaves running trials to be continued
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's own state is never read: the study's records are
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # What Ray prints of lost workers and machines: we say what becomes of their trials.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died|Raylet is terminated|node with node id|actor .* died",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a banner at every verbosity
}
_HERE = {
    "RAY_AUTH_MODE": "token",
    "RAY_prestart_worker_first_driver": "0",  # Tune takes no worker that was started before it asked
    # Ray takes the machine's public address for itself unless clusters are off, whatever the system is.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@dataclass(frozen=True)
class Share:
    """What each trial holds and how many run at once."""

    cpus: float
    gpus: float
    concurrent: int

    @property
    def threads(self) -> int:
        """Threads of one trial's arithmetic."""
        return max(1, int(self.cpus))


def address() -> str | None:
    """The cluster, from RAY_ADDRESS: to join, or, where it begins with http, to send jobs to."""
    given = os.environ.get("RAY_ADDRESS") or None
    return None if given == "local" else given


def share(resources: ResourceSpec, search: SearchSpec) -> Share:
    """How this machine is divided among trials; `auto` is one trial a GPU, until a trial has been measured.

    Raises:
        InputError: one trial asks for more than there is.
    """
    return divide(resources, search, float(cores.usable()), float(_gpus()), "this machine")


def connect(resources: ResourceSpec, search: SearchSpec) -> Share:
    """Starts Ray here, or joins the cluster, and says how it is divided; `auto` as in `share`.

    Raises:
        InputError: the cluster does not answer, or a trial asks for more than it has.
        Halted: Ray does not start here.
    """
    where = address()
    if where is not None:
        ray = join(where)
        return divide(resources, search, *capacity.most(capacity.joined(ray.nodes)), f"the cluster at {where}")
    os.environ.update(_ALWAYS | _HERE)
    os.environ.pop("RAY_ADDRESS", None)
    import ray

    here = share(resources, search)
    packed = here.gpus and resources.gpus_per_trial == "auto"  # more trials than `here` says may run in the end
    wanted = cores.usable() if packed else math.ceil(here.cpus * here.concurrent)
    try:
        _start(ray, num_cpus=wanted, object_store_memory=OBJECT_STORE)
    except Exception as error:  # Ray raises just that, or these, where a part of it does not answer in time
        if type(error) not in (Exception, RuntimeError, ConnectionError, TimeoutError):
            raise
        cause = first_line(error, "it does not say why")
        raise Halted(
            f"Ray did not start on this machine ({cause}); see that it has memory and cores to spare"
        ) from error
    return here


def join(where: str) -> "ModuleType":
    """Joins the cluster at `where`; returns Ray.

    Raises:
        InputError: the cluster does not answer.
    """
    os.environ.update(_ALWAYS)
    use_token()  # Ray reads the mode when it is imported
    import ray

    try:
        _probe(where)
        _start(ray, address=where)
    except (OSError, ValueError, RuntimeError) as error:
        cause = first_line(error, "no answer")
        raise InputError(
            f"RAY_ADDRESS = {where}: no cluster answers ({cause}); start it with `ray up`, or unset RAY_ADDRESS"
        ) from None
    return ray


def leave() -> None:
    """Stops Ray if it was started here; leaves the cluster that was joined."""
    import ray

    # Whatever thread collects garbage while Ray shuts down, a tracker's too: a reference to one of Ray's objects in it
    # would reach a Ray that is gone, which ends the whole process at once.
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def divide(resources: ResourceSpec, search: SearchSpec, cpus: float, gpus: float, place: str) -> Share:
    """How `cpus` cores and `gpus` GPUs of `place` (in words) are divided among trials; `auto` as in `share`.

    Raises:
        InputError: one trial asks for more than there is.
    """
    asked_gpus = resources.gpus_per_trial
    gpus_each = (1.0 if gpus else 0.0) if asked_gpus == "auto" else float(asked_gpus)
    for name, asked, there, kind in (
        ("gpus_per_trial", gpus_each, gpus, "GPUs"),
        ("cpus_per_trial", resources.cpus_per_trial, cpus, "CPU cores"),
    ):
        if asked > there:
            raise InputError(
                f"resources.{name} = {asked:g}, but {place} has {there:g} {kind}; ask for at most {there:g}"
            )
    fit = _times(cpus, resources.cpus_per_trial)
    if gpus_each:
        fit = min(fit, _times(gpus, gpus_each) if gpus_each >= 1 else int(gpus) * _times(1, gpus_each))
    return Share(resources.cpus_per_trial, gpus_each, min(fit, search.max_concurrent or fit))


def scratch() -> str:
    """A folder for what Tune insists on writing; nothing in it is ever read again."""
    return mkdtemp(prefix="resnet-search-")


def _probe(where: str) -> None:
    # Ray itself tries a dead address for minutes.
    from ray.util import get_node_ip_address

    host, colon, port = where.rpartition(":")
    if host in ("127.0.0.1", "localhost"):
        host = get_node_ip_address()  # what Ray makes of it, for its nodes know each other by such addresses
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()


def use_token() -> None:
    """Before Ray is imported: where a token lies, it is meant to be used, as by a cluster's own tools."""
    given = os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    if given or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _start(ray: "ModuleType", **options: object) -> None:
    # Without an address Ray would join whatever cluster runs on this machine.
    local = {} if "address" in options else {"address": "local", "include_dashboard": False}
    ray.init(log_to_driver=False, logging_level="ERROR", configure_logging=True, **local, **options)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _times(whole: float, part: float) -> int:
    """How often `part` fits, both in Ray's ten-thousandths: in binary fractions 0.1 fits into 1 nine times."""
    return round(whole * 10_000) // round(part * 10_000)
