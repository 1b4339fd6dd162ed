"""The server's wire: Starlette routes around a :class:`~slatewise.serving.service.Service`; every answer is JSON.

Errors name the field: 400 no JSON, 401 no key, 404 / 405 no such path, 413 too large, 422 not allowed; 503 with Retry-After
when it is full or a store does not answer. The one file that needs Starlette.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

import slatewise
from slatewise.errors import RequestError, SlatewiseError, UnavailableError
from slatewise.serving import openapi
from slatewise.serving.numbers import Numbers
from slatewise.serving.service import Service
from slatewise.serving.settings import Settings
from slatewise.serving.traffic import Traffic
from slatewise.serving.wire import ErrorAnswer, Fault, MalformedError, encode, read_feedback, read_rank

log = logging.getLogger("slatewise")
SETTINGS = "SLATEWISE_SERVER"  # where a worker finds the file of its settings
JSON = "application/json"

Endpoint = Callable[[Request], Awaitable[Response]]


def create(settings: Settings | None = None) -> Starlette:
    """The application; without settings those of the file that :data:`SETTINGS` names (workers are started so)."""
    if settings is None:
        settings = msgspec.json.decode(Path(os.environ[SETTINGS]).read_bytes(), type=Settings)
    api = Api(settings)
    pages = [
        Route("/studio", api.endpoint(api.studio), methods=["GET", "POST"]),
        Route("/studio/live", api.endpoint(api.live), methods=["GET"]),
    ]
    return Starlette(
        routes=[
            Route("/v1/rank", api.endpoint(api.rank), methods=["POST"]),
            Route("/v1/feedback", api.endpoint(api.feedback), methods=["POST"]),
            Route("/v1/info", api.endpoint(api.info), methods=["GET"]),
            Route("/metrics", api.endpoint(api.metrics), methods=["GET"]),
            Route("/livez", api.livez, methods=["GET"]),
            Route("/readyz", api.readyz, methods=["GET"]),
            Route("/openapi.json", api.description, methods=["GET"]),
            *(pages if settings.studio else ()),
        ],
        lifespan=api.lifespan,
        exception_handlers={HTTPException: _no_such_path},
    )


class Api:
    """The routes."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.numbers = settings, Numbers()
        self.service: Service | None = None
        self._body_limit = settings.body_kib * 1024
        self.traffic = Traffic()
        self._studio: Any = None

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Load before the first request, and stop gracefully behind the last."""
        self.service = service = Service(self.settings, self.numbers)
        try:
            yield
        finally:
            self.service = None
            service.close()

    @property
    def ready(self) -> Service:
        """The service.

        Raises:
            UnavailableError: it is not loaded yet, or stopped.
        """
        if self.service is None:
            raise UnavailableError("the server is not ready.")
        return self.service

    async def rank(self, request: Request) -> Response:
        """``POST /v1/rank``."""
        asked, several = read_rank(await self._body(request))
        answers = await self.ready.rank(asked, several=several)
        return _json(answers if several else answers[0])

    async def feedback(self, request: Request) -> Response:
        """``POST /v1/feedback``."""
        events, several = read_feedback(await self._body(request))
        answers = await self.ready.feedback(events, several=several)
        return _json(answers if several else answers[0])

    async def info(self, request: Request) -> Response:
        """``GET /v1/info``: the rankers, their versions and limits, and what was refused."""
        return _json(described(self.ready))

    async def metrics(self, request: Request) -> Response:
        """``GET /metrics``."""
        self.ready.look()
        text, kind = self.numbers.text()
        return Response(text, media_type=kind)

    async def livez(self, request: Request) -> Response:
        """``GET /livez``: the process answers."""
        return _json({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """``GET /readyz``: every ranker is loaded and warm."""
        if self.service is None:
            return _fault(503, "body", "the server is not ready.", retry=self.settings.retry_seconds)
        return _json({"status": "ready"})

    async def description(self, request: Request) -> Response:
        """``GET /openapi.json``."""
        return _json(openapi.document(self.settings, slatewise.__version__))

    async def studio(self, request: Request) -> Response:
        """``/studio``, where it is asked for: ranked in a thread, since it takes its time."""
        from slatewise.serving.studio import Studio, nonce, policy

        if self._studio is None or self._studio.service is not self.ready:
            self._studio = Studio(self.ready, self.traffic)
        once, body = nonce(), await self._body(request)
        page = await run_in_threadpool(self._studio.page, body, once)
        safe = {
            "Content-Security-Policy": policy(once),
            "Cache-Control": "no-store",
            "X-Frame-Options": "DENY",
        }
        return Response(page, 200, safe, "text/html")

    async def live(self, request: Request) -> Response:
        """``/studio/live``: the numbers that move."""
        return _json(self.traffic.last())

    def endpoint(self, handle: Endpoint) -> Endpoint:
        """A route behind a key, whose errors are answers."""

        async def answer(request: Request) -> Response:
            started, path = time.perf_counter(), request.url.path
            response = await self._answer(handle, request)
            self.numbers.seconds.labels(path).observe(time.perf_counter() - started)
            self.numbers.answers.labels(path, str(response.status_code)).inc()
            if path == "/v1/rank":
                self.traffic.add(time.perf_counter() - started, response.status_code)
            return response

        return answer

    async def _answer(self, handle: Endpoint, request: Request) -> Response:
        try:
            self._open(request)
            return await handle(request)
        except MalformedError as error:
            return _fault(400, error.field, str(error))
        except UnknownKeyError as error:
            scheme = "Basic" if request.url.path.startswith("/studio") else "Bearer"
            return _fault(401, error.field, str(error), scheme=scheme)
        except RequestError as error:
            return _fault(_STATUS.get(type(error), 422), error.field, str(error))
        except UnavailableError as error:
            return _fault(503, "body", str(error), retry=self.settings.retry_seconds)
        except SlatewiseError as error:
            return _fault(422, "body", str(error))
        except ClientDisconnect:
            return _fault(400, "body", "the connection was closed.")
        except Exception:
            log.exception("a request failed")
            return _fault(500, "body", "something went wrong here; the server's log says what.")

    def _open(self, request: Request) -> None:
        keys = self.ready.keys
        if keys.open:
            return
        given = request.headers.get("authorization", "")
        scheme, _, key = given.partition(" ")
        page = request.url.path.startswith("/studio")
        if scheme.lower() == "basic" and page:  # what a browser asks a person for; the name does not matter
            key = _password(key)
        elif scheme.lower() != "bearer":
            key = ""
        if keys.who(key.strip()) is None:
            raise UnknownKeyError(
                "authorization", "has no key of this server; send `Authorization: Bearer KEY`."
            )

    async def _body(self, request: Request) -> bytes:
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._body_limit:
            raise TooLargeError("body", f"has {length} bytes; at most {self._body_limit} are allowed here.")
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self._body_limit:
                raise TooLargeError("body", f"has more than {self._body_limit} bytes.")
            parts.append(part)
        return b"".join(parts)


class TooLargeError(RequestError):
    """413."""


class UnknownKeyError(RequestError):
    """401."""


_STATUS: dict[type[RequestError], int] = {TooLargeError: 413}


def _password(given: str) -> str:
    try:
        return base64.b64decode(given, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def described(service: Service) -> dict[str, Any]:
    """What ``/v1/info`` says."""
    rankers = []
    for name, model in service.fleet.models.items():
        arm, manifest = service.fleet.arms[name], model.artifact.manifest
        refused = service.fleet.refused.get(name)
        rankers.append(
            {
                "name": name,
                "model": model.version,
                "method": manifest.method,
                "backend": service.settings.backend or manifest.backends[0].name,
                "share": 0.0 if arm.shadow else arm.share,
                "shadow": arm.shadow,
                "candidates": manifest.limits.candidates,
                "length": manifest.limits.length,
                "commit": manifest.commit,
                "refused": refused.reason if refused else None,
            }
        )
    return {
        "version": slatewise.__version__,
        "rankers": rankers,
        "limits": service.settings.allowed,
        "log": bool(service.recorder),
        "features": bool(service.store),
    }


def _json(answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(answer), status, headers, JSON)


def _fault(status: int, field: str, message: str, retry: int = 0, scheme: str = "") -> Response:
    headers = {"Retry-After": str(retry)} if retry else {}
    if scheme:
        headers["WWW-Authenticate"] = scheme
    return _json(ErrorAnswer(Fault(field, message)), status, headers)


async def _no_such_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    where = "path" if error.status_code == 404 else "method"
    answer = _fault(error.status_code, where, f"{request.method} {request.url.path}: {error.detail}.")
    answer.headers.update(error.headers or {})
    return answer
