"""The private parts of Ray that are used here, because Ray has no public way.

Another Ray may lack one: `check` looks for all of them before Ray starts.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pkgutil import resolve_name
from typing import Any

from search.errors import Halted

RAY = "2.60"  # has all of them

# Ray also starts an API server, an autoscaler's monitor, and a log monitor for drivers that print workers' logs.
# Nothing here asks them, and each is waited for, or takes the cores from those that are: seconds of a start. `ray.init`
# has no option that leaves them out; with `include_dashboard=False` the API server is a smaller one.
_NODE = "ray._private.node:Node"
_UNUSED = ("start_api_server", "start_monitor", "start_log_monitor")
# A raylet also starts an agent, which measures the machine for the API server, and waits until that listens: 130 MB,
# and seconds of a core. Where Ray is installed without these parts its agent listens nowhere, and says so in place of
# its ports. A raylet ends with its agent, so there is one: `cat` lives until the raylet closes the pipe between them.
_START = f"{_NODE}.start_raylet"
_COMMAND = "ray._private.services:_build_python_executable_command_memory_profileable"
_PACKAGES = "ray._private.utils:get_dashboard_dependency_error"  # imports all that the agent would, to see if it can
_AGENT, _IDLE = "dashboard_agent", ("sh", "-c", "cat")  # arguments of the agent follow, which `sh` takes for names
_PERSIST = "ray._raylet:persist_port"
_PORTS = [f"ray._raylet:{name}_PORT_NAME" for name in ("METRICS_AGENT", "METRICS_EXPORT", "DASHBOARD_AGENT_LISTEN")]
# Whether Ray takes this machine's public address or 127.0.0.1, read from the environment when Ray is imported, which
# whoever calls us may have done.
_CLUSTERS = "ray._private.ray_constants:ENABLE_RAY_CLUSTER"
# How Ray's processes know each other, read at the same moment. An environment variable would say it to a new process.
_CONFIG = "ray._raylet:Config.initialize"
_MODE = "ray._raylet:get_authentication_mode"
_TOKEN = "ray._raylet:AuthenticationMode.TOKEN"
_LOADER = "ray._raylet:AuthenticationTokenLoader.instance"
# Where an actor ran that is dead: the public `ray.util.state` asks the API server, which is not there.
_ACTORS = "ray._private.state:actors"
# Tune counts the callbacks of a run for Ray's makers, to whom nothing is sent from here. To know its own among them it
# imports MLflow and three more, while the workers wait: half a second.
_COUNT = "ray.air._internal.usage:tag_callbacks"


def check() -> None:
    """Looks, in the Ray that is installed, for all that is replaced or asked while one starts and runs.

    Raises:
        Halted: it lacks one.
    """
    of_nodes = (*(f"{_NODE}.{name}" for name in _UNUSED), _START, _COMMAND, _PACKAGES, _PERSIST, *_PORTS)
    for name in (*of_nodes, _CLUSTERS, _CONFIG, _MODE, _TOKEN, _LOADER, _ACTORS):
        _resolve(name)


@contextmanager
def only_what_is_used() -> Iterator[None]:
    """While it is entered, a Ray that starts here is a control service and a raylet, and no more."""
    start, command, persist = map(resolve_name, (_START, _COMMAND, _PERSIST))

    def start_raylet(node: Any, *arguments: Any, **options: Any) -> None:
        for port in map(resolve_name, _PORTS):
            persist(node.get_session_dir_path(), node.node_id, port, -1)
        start(node, *arguments, **options)

    def command_of(component: str, *arguments: Any, **options: Any) -> list[str]:
        return [*_IDLE] if component == _AGENT else command(component, *arguments, **options)

    with ExitStack() as replaced:
        for name in _UNUSED:
            replaced.enter_context(_replaced(f"{_NODE}.{name}", lambda node, **options: None))
        replaced.enter_context(_replaced(_START, start_raylet))
        replaced.enter_context(_replaced(_COMMAND, command_of))
        replaced.enter_context(_replaced(_PACKAGES, lambda: None))
        yield


@contextmanager
def for_this_process_alone() -> Iterator[None]:
    """While it is entered, a Ray that starts here is for this process, by whomever and however it was imported.

    Its processes know each other by a token that is on no disk, and that nobody else has.
    """
    token = os.environ.get("RAY_AUTH_TOKEN")
    mode = "token" if resolve_name(_MODE)() == resolve_name(_TOKEN) else "disabled"
    with _replaced(_CLUSTERS, False):
        _authenticate("token", secrets.token_hex(32))
        try:
            yield
        finally:
            _authenticate(mode, token)


@contextmanager
def uncounted() -> Iterator[None]:
    """While it is entered, Tune does not look through the callbacks of a run that begins.

    Raises:
        Halted: the Ray that is installed lacks what does it.
    """
    with _replaced(_COUNT, lambda callbacks: False):
        yield


def machine(actor: str) -> str | None:
    """Ray's id of the node that an actor runs, or ran, on; None where Ray does not know it any more."""
    found = resolve_name(_ACTORS)(actor)
    return str(found["Address"]["NodeID"]) if found else None


def _resolve(name: str) -> Any:
    try:
        return resolve_name(name)
    except (ImportError, AttributeError):
        import ray

        missing = name.replace(":", ".")
        raise Halted(f"Ray {ray.__version__} has no {missing}, which trials need here; install Ray {RAY}") from None


@contextmanager
def _replaced(name: str, value: Any) -> Iterator[None]:
    """While it is entered, what `pkgutil.resolve_name` finds by this name is the value."""
    before = _resolve(name)
    module, _, names = name.partition(":")
    *owners, attribute = names.split(".")
    owner = resolve_name(f"{module}:{'.'.join(owners)}")
    setattr(owner, attribute, value)
    try:
        yield
    finally:
        setattr(owner, attribute, before)


def _authenticate(mode: str, token: str | None) -> None:
    before = os.environ.pop("RAY_AUTH_MODE", None)  # it would win
    resolve_name(_CONFIG)(json.dumps({"AUTH_MODE": mode}))
    for name, value in (("RAY_AUTH_MODE", before), ("RAY_AUTH_TOKEN", token)):
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    resolve_name(_LOADER)().reset_cache()
