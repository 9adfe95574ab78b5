"""MLflow's pages on a study: their addresses, and a server of them on a database for whoever has the token.

MLflow's own server asks nobody who he is, and lets him write: on a machine of several users each could replace the code
that MLflow runs where a champion is loaded. So every request needs a token, which the first address brings along and a
cookie keeps, as with Jupyter. It lives in this process alone: not on a command line, not in the environment.
"""

import json
import os
import secrets
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from socket import socket
from typing import ClassVar
from urllib.parse import quote, urlencode, urlsplit

import uvicorn
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from search.errors import public
from search.tracking.store import Store, follow
from search.tracking.views import GROUPS, SEEDS

_LAST_SECONDS = 2  # for what browsers are being answered when the server ends
_HERE = {"127.0.0.1", "localhost", "::1"}
_WITHOUT = "This needs the address that `python -m search.ui` has printed: there is a token in it.\n"
_ELSEWHERE = "Asked by another page, or by another name of this machine.\n"
# A redirection would still count as coming from where the address was clicked, and go without a strict cookie.
_ENTRANCE = """<!doctype html><meta name="referrer" content="no-referrer"><title>MLflow</title>
<script>location.replace(location.pathname + location.hash)</script>"""


@dataclass(frozen=True)
class Pages:
    """The addresses of a study's pages at `base`, each with `token` where one is needed to open it."""

    USUAL: ClassVar[str] = "http://127.0.0.1:5000"  # where those of this machine are served by default

    base: str
    experiment: str  # id
    study: str  # id of its run
    token: str = ""

    @property
    def table(self) -> str:
        """The study's trials."""
        return self._runs(self.study)

    @property
    def charts(self) -> str:
        """Parallel coordinates and learning curves of the trials."""
        return self._runs(self.study, compareRunsMode="CHART")

    @property
    def seeds(self) -> str:
        """Charts of the trainings of the finalists, by configuration."""
        return self._runs(self.study + SEEDS, compareRunsMode="CHART")

    def least(self, field: str) -> str:
        """Charts of the least error by one of `GROUPS`."""
        return self._runs(f"{self.study}-{field}", compareRunsMode="CHART")

    def comparison(self, run_ids: Sequence[str]) -> str:
        """Of runs: parallel coordinates, scatter and contour plots, params and metrics."""
        shown = json.dumps(list(run_ids))
        return self._page("compare-runs", runs=shown, experiments=json.dumps([self.experiment]))

    def named(self, name: str, run_ids: Sequence[str], finals: bool) -> dict[str, str]:
        """What it is -> address, of the study `name` and its trials, the best first; the first compares them."""
        pages = {
            f"{name}: parallel coordinates and learning curves": self.charts,
            "table of trials": self.table,
            **{f"least error by {field}": self.least(field) for field in GROUPS},
        }
        pages |= {"trials side by side": self.comparison(run_ids)} if run_ids else {}
        return pages | ({"finalists, mean over seeds": self.seeds} if finals else {})

    def _runs(self, view: str, **mode: str) -> str:
        return self._page(f"experiments/{self.experiment}/runs", viewStateShareKey=view, **mode)

    def _page(self, path: str, **query: str) -> str:
        query["workflowType"] = "machine_learning"  # MLflow's pages open on language models otherwise
        entrance = f"?token={self.token}" if self.token else ""
        return f"{public(self.base).rstrip('/')}/{entrance}#/{path}?{urlencode(query, quote_via=quote)}"


class PageServer:
    """MLflow's pages on a database, for who has `token` (default: 256 random bits); making one takes seconds."""

    def __init__(self, store: Store, token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe(32)
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        os.environ.update(quiet | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})  # without eight workers of a queue
        from mlflow.server import constants  # noqa: PLC0415  it reads the environment when it is imported

        # What `mlflow server` hands to its workers: as its command line, a password in the URI would be seen by all.
        os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = store.uri
        os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
        os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = str(store.root)
        os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of MLflow's own modules
            from mlflow.server.fastapi_app import app  # noqa: PLC0415  likewise
            from mlflow.server.handlers import initialize_backend_stores  # noqa: PLC0415

            from search.tracking import client  # noqa: PLC0415  likewise

        client.ready(store.uri)  # of a study that has just been started it may not be there
        follow(store)
        initialize_backend_stores(store.uri, store.uri, "mlflow-artifacts:/")
        self._pages = Guard(app, self.token)

    def serve(self, listening: socket) -> None:
        """Until the process is interrupted or terminated."""
        # not a line for every picture of a page
        settings = uvicorn.Config(
            self._pages, log_level="warning", proxy_headers=False, timeout_graceful_shutdown=_LAST_SECONDS
        )
        uvicorn.Server(settings).run(sockets=[listening])


class Guard:
    """Lets to `app` who has the token, from a page of this server or from none."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # MLflow has no other pages
            await send({"type": "websocket.close"})
            return
        asked = HTTPConnection(scope)
        cookie = f"resnet-search-{scope['server'][1]}"
        if not _from_here(asked):
            await PlainTextResponse(_ELSEWHERE, 403)(scope, receive, send)
        elif self._is_token(asked.cookies.get(cookie)):
            await self._app(scope, receive, send)
        elif scope["path"] == "/" and self._is_token(asked.query_params.get("token")):
            entered = HTMLResponse(_ENTRANCE, headers={"cache-control": "no-store"})
            entered.set_cookie(cookie, self._token.decode(), httponly=True, samesite="strict")
            await entered(scope, receive, send)
        else:
            await PlainTextResponse(_WITHOUT, 403)(scope, receive, send)

    def _is_token(self, given: str | None) -> bool:
        return given is not None and secrets.compare_digest(given.encode(), self._token)


def _from_here(asked: HTTPConnection) -> bool:
    """Whether the browser was asked by one of our pages, or by its user.

    A website can have its name resolved to this machine; a page of another user's server, on another port, counts as of
    the same site and gets the cookie along.
    """
    host = asked.headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name in _HERE and asked.headers.get("origin", f"http://{host}") == f"http://{host}"
