"""Responses of the server's own kinds."""

import msgspec
from starlette.responses import Response

from uniqdb_cli.web.problems import MEDIA_TYPE, Problem, headers_of


def problem_response(found: Problem) -> Response:
    """A problem; nobody keeps it."""
    headers = {"Cache-Control": "no-store", **headers_of(found.status)}
    return Response(msgspec.json.encode(found), found.status, headers, MEDIA_TYPE)
