"""Who is let in: this server's names only, GET and HEAD only, no other page's requests, and whoever has the token."""

import base64
import binascii
import hmac
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from uniqdb.errors import NotFound, UsageError
from uniqdb_cli.address import LOOPBACK_NAMES, Address
from uniqdb_cli.output import say
from uniqdb_cli.web.limits import HEAD_BYTES_MAX, TOKEN_CHARACTERS_MIN, URL_BYTES_MAX
from uniqdb_cli.web.problems import Problem, problem
from uniqdb_cli.web.responses import problem_response

SAFE_HEADERS = {
    # Nothing from elsewhere, nothing inline, in no frame, and no form.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_SAFE = [(name.lower().encode(), value.encode()) for name, value in SAFE_HEADERS.items()]


def read_token(place: Path) -> str:
    """The token in a file: its first line. Raises NotFound, UsageError; warns if others may read the file."""
    try:
        text = place.read_text("utf-8")
        mode = place.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise NotFound(f"the token file {place} cannot be read: {reason}", hint="correct --token-file") from None
    token = text.partition("\n")[0].strip()
    if len(token) < TOKEN_CHARACTERS_MIN or not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError(
            f"the first line of {place} is no token",
            hint=f"write {TOKEN_CHARACTERS_MIN} or more ASCII characters there, as `openssl rand -hex 24` prints them",
        )
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        say(f"uniqdb: others may read {place}; chmod 600 would keep it to its owner.")
    return token


def names_of(address: Address, more: Iterable[str]) -> frozenset[str]:
    """What the Host header may say: the loopback names, the address itself, and what the user adds."""
    own = LOOPBACK_NAMES if address.is_loopback else (*LOOPBACK_NAMES, Address(address.host, 0).text.rpartition(":")[0])
    with_port = {f"{name}:{address.port}" for name in own}
    if address.port == 80:
        with_port |= set(own)  # browsers leave it out
    return frozenset({name.lower() for name in (*with_port, *more)})


@dataclass(frozen=True, slots=True)
class Rules:
    """``names``: allowed values of Host. ``token``: None lets everybody in who asks under such a name."""

    names: frozenset[str]
    token: str | None = None

    def refusal(self, scope: Scope) -> Problem | None:
        """Why a request is not let in; None if it is."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or hosts[0].decode("latin-1").lower() not in self.names:
            hint = "use an address that serve-http printed; others are named with --allowed-host"
            return problem(403, "this name is not served here", hint)
        if headers.get(b"sec-fetch-site", [b"none"])[-1] not in (b"none", b"same-origin") and not _is_visit(headers):
            return problem(403, "another page may not ask here", "open the page itself")
        if scope["method"] not in ("GET", "HEAD"):
            return problem(405, "nothing can be changed here", "use GET or HEAD")
        if len(scope["raw_path"]) + len(scope["query_string"]) > URL_BYTES_MAX:
            return problem(414, "the address is too long", f"at most {URL_BYTES_MAX:,} bytes")
        if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > HEAD_BYTES_MAX:
            return problem(431, "the headers are too large", f"at most {HEAD_BYTES_MAX:,} bytes")
        if self.token is not None and not _has_token(headers.get(b"authorization", []), self.token):
            return problem(401, "this server wants its token", "send it as Bearer, or as the password of any user")
        return None


def _is_visit(headers: dict[bytes, list[bytes]]) -> bool:
    """Whether somebody followed a link to us, rather than a page asked in the background."""
    return headers.get(b"sec-fetch-mode") == [b"navigate"] and headers.get(b"sec-fetch-dest") == [b"document"]


def _has_token(sent: list[bytes], token: str) -> bool:
    if len(sent) != 1:
        return False
    kind, _, value = sent[0].partition(b" ")
    given = value.strip()
    if kind.lower() == b"basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif kind.lower() != b"bearer":
        return False
    return hmac.compare_digest(given, token.encode())


class Gate:
    """In front of the application: refuses, and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app, self._rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return

        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_SAFE]
            await send(message)

        refusal = self._rules.refusal(scope)
        app = self._app if refusal is None else problem_response(refusal)
        await app(scope, receive, send_safe)
