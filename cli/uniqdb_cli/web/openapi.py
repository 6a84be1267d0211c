"""The OpenAPI document: made of the very tables that requests are judged by and answers are made of."""

from collections.abc import Sequence
from typing import Any

import msgspec

from uniqdb import __version__
from uniqdb_cli.web.endpoints import Endpoint
from uniqdb_cli.web.problems import MEDIA_TYPE, TITLES, Problem, headers_of

REF = "#/components/schemas/{name}"
_ERRORS = (400, 401, 403, 404, 405, 409, 410, 414, 422, 431, 500, 503)


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """OpenAPI 3.1 of the API."""
    kinds = [*dict.fromkeys([*(one.answer for one in endpoints), Problem])]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "uniqdb",
            "version": __version__,
            "summary": "Exact unique visitors for any time window, read-only.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"bearer": []}, {"basic": []}],
        "paths": {one.path: {"get": _operation(one)} for one in endpoints},
        "components": {
            "schemas": schemas,
            "responses": {str(status): _error(status) for status in _ERRORS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "Any user; the token is the password."},
            },
        },
    }


def _operation(one: Endpoint) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": REF.format(name=one.answer.__name__)}}}
    if one.rows is not None:
        content["text/csv"] = {"schema": {"type": "string"}}
    answers: dict[str, Any] = {"200": {"description": "As of the newest commit.", "content": content}}
    if not one.is_private:
        answers["200"]["headers"] = {
            "ETag": {"description": "Names the commit; send it as If-None-Match.", "schema": {"type": "string"}}
        }
        answers["304"] = {"description": "Nothing was committed since the answer with this ETag."}
    answers |= {str(status): {"$ref": f"#/components/responses/{status}"} for status in _ERRORS}
    return {
        "operationId": one.path.rpartition("/")[2],
        "summary": one.summary,
        "parameters": [parameter.schema() for parameter in one.parameters],
        "responses": answers,
    }


def _error(status: int) -> dict[str, Any]:
    headers = {name: {"schema": {"type": "string"}} for name in headers_of(status)}
    content = {MEDIA_TYPE: {"schema": {"$ref": REF.format(name="Problem")}}}
    return {"description": TITLES[status], "content": content, **({"headers": headers} if headers else {})}
