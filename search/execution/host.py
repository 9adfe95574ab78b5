"""Where trials run: a private Ray on this machine, or the cluster that RAY_ADDRESS names, and its size."""

import gc
import math
import os
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from search import machine
from search.errors import Halted, InputError, first_line
from search.execution import internals, prices, watch
from search.formatting import say
from search.spec import ResourceSpec, SearchSpec, Share
from search.storage import scratch

if TYPE_CHECKING:
    from types import ModuleType

# Where `ray up` leaves on the head what the autoscaler works with, the resources of each type filled in.
AUTOSCALING = Path("~/ray_bootstrap_config.yaml")

MACHINES = "RESNET_SEARCH_MACHINES"  # how many a job of Slurm's has
SLURM_SECONDS = 120.0  # its machines read Ray all at once from a disk that they share
JOIN_SECONDS = 45.0  # `ray up` has ended when the last machines are still starting Ray

Amount = tuple[float, float]  # CPU cores, GPUs


def most(nodes: Sequence[dict[str, Any]], autoscaling: Path = AUTOSCALING) -> Amount:
    """What the cluster of these nodes (as `ray.nodes()` has them) has at its largest.

    What the autoscaler may add is known on the head, where a submitted study runs; elsewhere the nodes count that there
    are now.
    """
    (cores, gpus), (more_cores, more_gpus) = _now(nodes), _planned(_plan(autoscaling))
    return max(cores, more_cores), max(gpus, more_gpus)


def joined(
    nodes: Callable[[], list[dict[str, Any]]], autoscaling: Path = AUTOSCALING, seconds: float = JOIN_SECONDS
) -> list[dict[str, Any]]:
    """What `nodes` (`ray.nodes`) gives once all machines are there that `ray up` or Slurm starts in any case.

    Those that have not come after `seconds` are not waited for, or after SLURM_SECONDS: one of them may be broken.
    """
    end = time.monotonic() + (SLURM_SECONDS if MACHINES in os.environ else seconds)
    types = _plan(autoscaling).get("available_node_types") or {}
    launched = 1 + sum(int(kind.get("min_workers", 0)) for kind in types.values())  # the head, and workers
    expected = max(launched, int(os.environ.get(MACHINES, 1)))
    while sum(node["Alive"] for node in nodes()) < expected and time.monotonic() < end:
        time.sleep(0.5)
    return nodes()


def check_machine(given: Share, nodes: Sequence[dict[str, Any]], plan: Mapping[str, Any]) -> None:
    """Refuses trials that hold more GPUs than any one machine has, or will have by the autoscaler's plan.

    Raises:
        InputError: that is so.
    """
    kinds = (plan.get("available_node_types") or {}).values()
    there = [node["Resources"] for node in nodes if node["Alive"]] + [kind.get("resources") or {} for kind in kinds]
    largest = max((has.get("GPU", 0.0) for has in there), default=0.0)
    if given.processes > 1 and given.gpus > largest:
        raise InputError(
            f"resources.gpus_per_trial = {given.gpus:g}, but no machine of the cluster has more than {largest:g} GPUs; "
            f"ask for at most {largest:g}"
        )


def machines(nodes: Sequence[dict[str, Any]], autoscaling: Path = AUTOSCALING) -> int:
    """On how many machines trials may run; nodes of one address are one machine."""
    there = len({node["NodeManagerAddress"] for node in nodes if node["Alive"]})
    return there + (most(nodes, autoscaling) != _now(nodes))


def _plan(autoscaling: Path) -> dict[str, Any]:
    file = autoscaling.expanduser()
    return yaml.safe_load(file.read_text()) if file.is_file() else {}


def _now(nodes: Sequence[dict[str, Any]]) -> Amount:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    return sum(has.get("CPU", 0.0) for has in alive), sum(has.get("GPU", 0.0) for has in alive)


def _planned(plan: Mapping[str, Any]) -> Amount:
    """What the workers have when there are as many as there may be."""
    limit, types = int(plan.get("max_workers", 0)), plan.get("available_node_types") or {}
    workers = [
        kind.get("resources") or {}
        for name, kind in types.items()
        if name != plan.get("head_node_type")
        for _ in range(min(limit, int(kind.get("max_workers", limit))))
    ]

    def largest(kind: str) -> float:  # all types share one limit: those with most of a kind count first
        return sum(sorted((float(has.get(kind, 0.0)) for has in workers), reverse=True)[:limit])

    return largest("CPU"), largest("GPU")


_SOCKET_LIMIT = 108 if sys.platform == "linux" else 104  # bytes of a socket's path and the zero at its end (sys/un.h)
_TOKEN = ".ray/auth_token"  # in the user's home: of this user's clusters
_RAY = "r"  # in our folder
_SOCKET = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # Ray's longest, in its temporary folder
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
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
_HERE = {
    "RAY_AUTH_MODE": "token",
    "RAY_prestart_worker_first_driver": "0",  # Tune takes no worker that was started before it asked
    # Ray takes the machine's public address for itself unless clusters are off, whatever the system is.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


def address() -> str | None:
    """The cluster, from RAY_ADDRESS: to join, or, where it begins with http, to send jobs to."""
    given = os.environ.get("RAY_ADDRESS") or None
    return None if given == "local" else given


def share(resources: ResourceSpec, search: SearchSpec) -> Share:
    """How this machine is divided among trials; `auto` is one trial a GPU, until a trial has been measured.

    Raises:
        InputError: one trial asks for more than there is.
    """
    import torch

    return divide(resources, search, float(machine.usable()), float(torch.cuda.device_count()), "this machine")


@contextmanager
def connected(
    resources: ResourceSpec, search: SearchSpec
) -> Iterator[tuple[Share, Callable[[], None], Callable[[], dict[str, float]]]]:
    """While it is entered, Ray runs here, or the cluster is joined.

    Yields how it is divided, `auto` as in `share`; a function that raises Halted once Ray has lost a part without
    which nothing can go on; and one that says what the nodes cost an hour, see `prices.hourly`. If Ray is not left in
    time after the second has raised, this process is ended with the same sentence.

    Raises:
        InputError: the cluster does not answer, a trial asks for more than it has, or a budget cannot be counted.
        Halted: Ray does not start here, or is one that lacks what is needed of it.
    """
    where = address()
    scratch.remove_dead()
    with ExitStack() as around:  # what Ray needs for as long as it runs
        if where is None:
            folder = around.enter_context(ray_folder())
            around.callback(scratch.end_writers, folder)  # Ray's agents outlive a raylet that was killed
            given = _start_here(resources, search, folder, around)
            died = watch.here()
        else:
            folder = None
            cluster = join(where)
            given = divide(resources, search, *most(joined(cluster.nodes)), f"the cluster at {where}")
            check_machine(given, cluster.nodes(), _plan(AUTOSCALING))
            died = watch.joined(where, _parts(cluster))
        import ray

        looking = watch.Watch(died, partial(_end, folder))
        try:
            prices.check(search, ray.nodes(), _plan(AUTOSCALING) if where else {})
            yield given, looking.check, lambda: prices.hourly(ray.nodes())
        finally:
            with looking.leaving():
                leave()


def join(where: str) -> "ModuleType":
    """Joins the cluster at `where`; returns Ray.

    Raises:
        InputError: the cluster does not answer.
        Halted: the Ray of this process lacks what is needed of it.
    """
    os.environ.update(_ALWAYS)
    use_token()  # Ray reads the mode when it is imported
    import ray

    internals.check()
    try:
        _probe(where)
        ray.init(address=where, **_QUIET)
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
        InputError: one trial asks for more than there is, or GPU-hours are to be counted where trials hold no GPU.
    """
    asked_gpus = resources.gpus_per_trial
    gpus_each = (1.0 if gpus else 0.0) if asked_gpus == "auto" else float(asked_gpus)
    if search.gpu_hours is not None and not gpus_each:
        why = f"{place} has none" if not gpus else "resources.gpus_per_trial = 0"
        raise InputError(
            f"search.gpu_hours = {search.gpu_hours:g}, but trials hold no GPU ({why}); set search.time_budget instead"
        )
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
    return Share(resources.cpus_per_trial, gpus_each, min(fit, search.max_concurrent or fit), max(1, int(gpus_each)))


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
    if os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} or (Path.home() / _TOKEN).exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    close_token()


def close_token() -> None:
    """Takes the token of this user's clusters away from other users: Ray makes its file readable for all of them."""
    with suppress(OSError):  # there is none, it is a link, or its file system has no modes
        file = os.open(Path.home() / _TOKEN, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if stat.S_IMODE(os.fstat(file).st_mode) & 0o077:
                os.fchmod(file, 0o600)
        finally:
            os.close(file)


def _start_here(resources: ResourceSpec, search: SearchSpec, folder: Path, around: ExitStack) -> Share:
    os.environ.update(_ALWAYS)  # some of it Ray reads when it is imported
    import ray

    internals.check()
    around.enter_context(internals.for_this_process_alone())
    os.environ.update(_HERE)
    os.environ.pop("RAY_ADDRESS", None)
    close_token()
    here = share(resources, search)
    packed = here.gpus and resources.gpus_per_trial == "auto"  # more trials than `here` says may run in the end
    wanted = machine.usable() if packed else math.ceil(here.cpus * here.concurrent)
    temporary = str(folder / _RAY)  # which Ray opens to all
    try:
        with internals.only_what_is_used(), _background_import("ray.tune"):
            ray.init(
                address="local",  # else Ray would join whatever cluster runs on this machine
                include_dashboard=False,
                num_cpus=wanted,
                object_store_memory=OBJECT_STORE,
                _temp_dir=temporary,
                **_QUIET,
            )
    except Exception as error:  # Ray raises just that, or these, where a part of it does not answer in time
        if type(error) not in (Exception, RuntimeError, ConnectionError, TimeoutError):
            raise
        cause = first_line(error, "it does not say why")
        raise Halted(
            f"Ray did not start on this machine ({cause}); see that it has memory and cores to spare"
        ) from error
    return here


@contextmanager
def _background_import(module: str) -> Iterator[None]:
    """Imports the module in a thread while the block runs, and waits for it at the end: Tune takes most of a second."""
    thread = threading.Thread(target=import_module, args=[module], name=f"import {module}")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def ray_folder() -> AbstractContextManager[Path]:
    """A new one for Ray's sockets and logs: in Ray's usual place, or in /tmp where sockets' paths would be too long."""
    usual = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()).absolute()
    longest = usual / f"{scratch.PREFIX}{os.getuid()}" / "12345678" / _RAY / _SOCKET
    parent = usual if len(os.fsencode(longest)) < _SOCKET_LIMIT else Path("/tmp")
    scratch.remove_dead(parent)  # it may be another place than the usual one of temporary files
    return scratch.folder(parent)


def _parts(ray: "ModuleType") -> dict[str, tuple[str, int]]:
    """What of a cluster this process cannot do without, and where it listens."""
    context = ray.get_runtime_context()
    mine = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    head, _, port = context.gcs_address.rpartition(":")
    return {
        "the head": (head, int(port)),
        "Ray on this machine": (mine["NodeManagerAddress"], mine["NodeManagerPort"]),
    }


def _end(folder: Path | None, halted: Halted) -> None:
    """Ends Ray here and this process, whose main thread hangs in Ray: all that it knows is written down."""
    say(Console(stderr=True), halted.sentence)
    Console().show_cursor()
    if folder is not None:
        scratch.end_writers(folder)
    os._exit(1)


def _times(whole: float, part: float) -> int:
    """How often `part` fits, both in Ray's ten-thousandths: in binary fractions 0.1 fits into 1 nine times."""
    return round(whole * 10_000) // round(part * 10_000)
