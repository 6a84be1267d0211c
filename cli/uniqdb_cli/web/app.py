"""The application: addresses, and what is sent for each."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from uniqdb.errors import UniqdbError
from uniqdb_cli.web.assets import Asset
from uniqdb_cli.web.endpoints import ENDPOINTS, Endpoint
from uniqdb_cli.web.gate import Gate, Rules
from uniqdb_cli.web.openapi import document
from uniqdb_cli.web.parameters import parse_query
from uniqdb_cli.web.problems import problem, problem_of
from uniqdb_cli.web.reader import StoreReader
from uniqdb_cli.web.responses import problem_response

Handler = Callable[[Request], Awaitable[Response]]
OPENAPI_PATH = "/api/openapi.json"


def application(reader: StoreReader, assets: Mapping[str, Asset], rules: Rules) -> ASGIApp:
    """All of it, behind the gate."""
    routes = [Route(one.path, _api(reader, one)) for one in ENDPOINTS]
    routes += [Route(path, _static(asset)) for path, asset in assets.items()]
    described = msgspec.json.format(msgspec.json.encode(document(ENDPOINTS)), indent=1)
    routes.append(Route(OPENAPI_PATH, _static(Asset(described, "application/json", "", 0))))
    app = Starlette(
        routes=routes, exception_handlers={HTTPException: _refused, UniqdbError: _failed, Exception: _broken}
    )
    app.router.redirect_slashes = False
    return Gate(app, rules)


def _api(reader: StoreReader, endpoint: Endpoint) -> Handler:
    async def answer(request: Request) -> Response:
        query = parse_query(request.scope["query_string"], endpoint.parameters)
        found = await reader.answer(endpoint, query, lambda etag: _knows(request, etag))
        if endpoint.is_private:
            return Response(found.body, headers={"Cache-Control": "no-store"}, media_type=found.media_type)
        # `no-cache`: a browser keeps it, and asks each time whether it is still so.
        headers = {"ETag": found.etag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
        if found.body is None:
            return Response(status_code=304, headers=headers)
        if found.media_type.startswith("text/csv"):
            name = endpoint.path.rpartition("/")[2]
            headers["Content-Disposition"] = f'attachment; filename="uniqdb-{name}.csv"'
        return Response(found.body, headers=headers, media_type=found.media_type)

    return answer


def _static(asset: Asset) -> Handler:
    cached = f"private, max-age={asset.max_age_s}" if asset.max_age_s else "private, no-cache"

    async def answer(request: Request) -> Response:
        headers = {"Cache-Control": cached}
        if asset.etag:
            headers["ETag"] = asset.etag
            if _knows(request, asset.etag):
                return Response(status_code=304, headers=headers)
        return Response(asset.body, headers=headers, media_type=asset.media_type)

    return answer


def _knows(request: Request, etag: str) -> bool:
    """Whether If-None-Match names it, among others or weakly."""
    sent = (one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(","))
    return any(one in (etag, "*") for one in sent)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return problem_response(problem(405, "nothing can be changed here", "use GET or HEAD"))
    return problem_response(problem(404, "there is nothing at this address", f"{OPENAPI_PATH} lists what there is"))


async def _failed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, UniqdbError)
    return problem_response(problem_of(error))


async def _broken(_request: Request, _error: Exception) -> Response:
    """A fault of ours: starlette raises it again, and uvicorn writes it to the log."""
    return problem_response(problem(500, "the server has a fault", "its log says which"))
