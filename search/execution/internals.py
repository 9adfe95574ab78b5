"""The private parts of Ray that are used here, because Ray has no public way.

Another Ray may lack one: `check` looks for all of them before Ray starts.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any

from search.errors import Halted

RAY = "2.60"  # has all of them

# Ray also starts an API server, an autoscaler's monitor, and a log monitor for drivers that print workers' logs.
# Nothing here asks them, and each is waited for, or takes the cores from those that are: seconds of a start. `ray.init`
# has no option that leaves them out; with `include_dashboard=False` the API server is a smaller one.
_NODE = "ray._private.node:Node"
_UNUSED = ("start_api_server", "start_monitor", "start_log_monitor")
# Whether Ray takes this machine's public address or 127.0.0.1, read from the environment when Ray is imported, which
# whoever calls us may have done.
_CONSTANTS = "ray._private.ray_constants"
_CLUSTERS = "ENABLE_RAY_CLUSTER"
# How Ray's processes know each other, read at the same moment. An environment variable would say it to a new process.
_CONFIG = "ray._raylet:Config.initialize"
_MODE = "ray._raylet:get_authentication_mode"
_TOKEN = "ray._raylet:AuthenticationMode.TOKEN"
_LOADER = "ray._raylet:AuthenticationTokenLoader.instance"
# Where an actor ran that is dead: the public `ray.util.state` asks the API server, which is not there.
_ACTORS = "ray._private.state:actors"


def check() -> None:
    """Looks for all of them in the Ray that is installed.

    Raises:
        Halted: it lacks one.
    """
    import ray

    methods = [f"{_NODE}.{name}" for name in _UNUSED]
    for name in (*methods, f"{_CONSTANTS}:{_CLUSTERS}", _CONFIG, _MODE, _TOKEN, _LOADER, _ACTORS):
        try:
            resolve_name(name)
        except (ImportError, AttributeError):
            missing = name.replace(":", ".")
            raise Halted(f"Ray {ray.__version__} has no {missing}, which trials need here; install Ray {RAY}") from None


@contextmanager
def only_what_is_used() -> Iterator[None]:
    """While it is entered, a Ray that starts here is a control service and a raylet, and no more."""
    node = resolve_name(_NODE)
    before = {name: getattr(node, name) for name in _UNUSED}
    for name in before:
        setattr(node, name, lambda node, **options: None)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(node, name, method)


@contextmanager
def for_this_process_alone() -> Iterator[None]:
    """While it is entered, a Ray that starts here is for this process, by whomever and however it was imported.

    Its processes know each other by a token that is on no disk, and that nobody else has.
    """
    constants: Any = resolve_name(_CONSTANTS)
    clusters, token = getattr(constants, _CLUSTERS), os.environ.get("RAY_AUTH_TOKEN")
    mode = "token" if resolve_name(_MODE)() == resolve_name(_TOKEN) else "disabled"
    setattr(constants, _CLUSTERS, False)
    _authenticate("token", secrets.token_hex(32))
    try:
        yield
    finally:
        setattr(constants, _CLUSTERS, clusters)
        _authenticate(mode, token)


def machine(actor: str) -> str | None:
    """Ray's id of the node that an actor runs, or ran, on; None where Ray does not know it any more."""
    found = resolve_name(_ACTORS)(actor)
    return str(found["Address"]["NodeID"]) if found else None


def _authenticate(mode: str, token: str | None) -> None:
    before = os.environ.pop("RAY_AUTH_MODE", None)  # it would win
    resolve_name(_CONFIG)(json.dumps({"AUTH_MODE": mode}))
    for name, value in (("RAY_AUTH_MODE", before), ("RAY_AUTH_TOKEN", token)):
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    resolve_name(_LOADER)().reset_cache()
