"""MLflow's pages on a database, for whoever has the token.

MLflow's own server asks nobody who he is, and lets him write: on a machine of several users each could replace the code
that MLflow runs where a champion is loaded. So every request needs a token, which the first address brings along and a
cookie keeps, as with Jupyter. It lives in this process alone: not on a command line, not in the environment.
"""

import os
import secrets
from socket import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.types import ASGIApp, Receive, Scope, Send


_HERE = {"127.0.0.1", "localhost", "::1"}
_WITHOUT = "This needs the address that `python -m search.ui` has printed: there is a token in it.\n"
_ELSEWHERE = "Asked by another page, or by another name of this machine.\n"
# A redirection would still count as coming from where the address was clicked, and go without a strict cookie.
_ENTRANCE = """<!doctype html><meta name="referrer" content="no-referrer"><title>MLflow</title>
<script>location.replace(location.pathname + location.hash)</script>"""


def new_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def with_token(address: str, token: str) -> str:
    """An address of one of MLflow's pages, as one that opens it for the first time."""
    return address.replace("/#/", f"/?token={token}#/", 1)


def application(uri: str, root: str, token: str) -> "Guard":
    """MLflow's pages on the database at `uri`, whose runs keep their files below `root`; it takes seconds."""
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    os.environ.update(quiet | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})  # without eight workers of a job queue
    from mlflow.server import constants

    # What `mlflow server` hands to its workers: as its command line, a password in `uri` would be seen by everybody.
    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = uri
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = root
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(uri, uri, "mlflow-artifacts:/")
    return Guard(app, token)


def serve(pages: "Guard", listening: socket) -> None:
    """Until the process is interrupted or terminated."""
    import uvicorn

    # not a line for every picture of a page
    uvicorn.Server(uvicorn.Config(pages, log_level="warning", proxy_headers=False)).run(sockets=[listening])


class Guard:
    """Lets to `app` who has the token, from a page of this server or from none."""

    def __init__(self, app: "ASGIApp", token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """See the ASGI specification."""
        from starlette.requests import HTTPConnection
        from starlette.responses import HTMLResponse, PlainTextResponse

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


def _from_here(asked: "HTTPConnection") -> bool:
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
