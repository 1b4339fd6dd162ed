"""The least that a server does: read a body and send an answer of the size of a ranker's."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def echo(request: Request) -> Response:
    """The body, read and sent back."""
    return Response(await request.body(), media_type="application/json")


def create() -> Starlette:
    """The application."""
    return Starlette(routes=[Route("/v1/rank", echo, methods=["POST"])])
