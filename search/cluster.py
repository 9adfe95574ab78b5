"""Where a command runs: here, on the cluster that RAY_ADDRESS joins, or as a job of one, behind its job server."""

import argparse
import os

from search import capacity, host
from search.errors import InputError
from search.redact import public
from search.shipment import check_joined
from search.study_spec import StudySpec


def job_server(given: argparse.Namespace) -> str | None:
    """The job server to which the command goes; None where it runs in this process, whichever cluster that joins.

    Raises:
        InputError: --stop without one; a password in the address, which every process of Ray's would show.
    """
    if given.address is not None:
        os.environ["RAY_ADDRESS"] = given.address  # Ray itself reads it, and so do the processes that we start
    where = host.address()
    if where is not None and public(where) != where:
        raise InputError(
            f"RAY_ADDRESS = {public(where)!r} was given with a password; put the token into RAY_AUTH_TOKEN"
        )
    if where is not None and where.startswith(("http://", "https://")) and not given.dry_run:
        return where
    if given.stop:
        raise InputError("--stop: no job server is named; give --address http://HOST:8265, or set RAY_ADDRESS")
    return None


def check_shared(given: argparse.Namespace, spec: StudySpec) -> None:
    """Refuses to spread trials over several machines when only this one would see what they need, and their results.

    Raises:
        InputError: a relative path is given, and the cluster is more than this machine; or it does not answer.
    """
    where = host.address()
    if where is None or given.dry_run or given.sync:
        return
    try:
        check_joined(str(given.output), spec)
    except InputError:
        ray = host.join(where)
        several = capacity.machines(ray.nodes()) > 1
        host.leave()
        if several:
            raise
