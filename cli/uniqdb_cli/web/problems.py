"""What went wrong, as `application/problem+json` (RFC 9457), each kind of error with its status."""

import msgspec

from uniqdb.errors import InputRefused, NotFound, StoreBusy, StoreCorrupt, UniqdbError, UsageError, WindowNotKept
from uniqdb_cli.output import json_text
from uniqdb_cli.web.parameters import BadQuery

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1


class Busy(UniqdbError):
    """There is too much to do at the moment."""

    exit_code = 75


class Problem(msgspec.Struct, frozen=True):
    """The body of an error. ``type`` names the kind, ``detail`` says what is wrong, ``hint`` what to do."""

    type: str
    title: str
    status: int
    detail: str
    hint: str


TITLES = {
    400: "The query cannot be read",
    401: "A token is needed",
    403: "Not served under this name, or to this page",
    404: "Not found",
    405: "Only GET and HEAD",
    409: "The counts of the stores cannot be added",
    410: "No longer kept",
    414: "The address is too long",
    422: "The question makes no sense",
    431: "The headers are too large",
    500: "The store or the server is damaged",
    503: "Too busy",
}
_STATUSES: tuple[tuple[type[UniqdbError], int], ...] = (
    (BadQuery, 400),
    (UsageError, 422),
    (NotFound, 404),
    (InputRefused, 409),
    (WindowNotKept, 410),
    (StoreCorrupt, 500),
    (StoreBusy, 503),
    (Busy, 503),
)


def status_of(error: UniqdbError) -> int:
    """The status of an error of the tree; what nobody can bring about by asking is 500."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def problem_of(error: UniqdbError) -> Problem:
    """What is said of an error."""
    return problem(status_of(error), error.message, error.hint, type(error).__name__)


def problem(status: int, detail: str, hint: str, kind: str = "") -> Problem:
    """What is said of anything that went wrong."""
    name = f"urn:uniqdb:{kind}" if kind else "about:blank"
    return Problem(name, TITLES[status], status, json_text(detail), json_text(hint))


def headers_of(status: int) -> dict[str, str]:
    """Headers that belong to a status."""
    found: dict[int, dict[str, str]] = {
        401: {"WWW-Authenticate": 'Basic realm="uniqdb", charset="UTF-8"'},
        405: {"Allow": "GET, HEAD"},
        503: {"Retry-After": str(RETRY_AFTER_S)},
    }
    return found.get(status, {})
