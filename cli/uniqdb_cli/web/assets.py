"""The files of the page: read once, at the start; what is asked for later is a name in a table, and never a path."""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

PLOTLY = "plotly.min.js"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent."""

    body: bytes
    media_type: str
    etag: str
    max_age_s: int
    """So long a browser need not ask again."""


def _asset(name: str, body: bytes, max_age_s: int = 0) -> Asset:
    media_type = _TYPES[name[name.rindex(".") :]]
    return Asset(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:24]}"', max_age_s)


_PLACE = b"<!-- what plotly has -->"
_OWN_STYLE = re.compile(rb'getElementById\("([0-9a-f]{40,})"\)')


def _without_own_styles(page: bytes, plotly: bytes) -> bytes:
    """The page with an element for each style sheet of maps, by whose id plotly sees that it need not be added.

    It would be refused by the page's policy, and there are no maps here.
    """
    ids = sorted(set(_OWN_STYLE.findall(plotly)))
    return page.replace(_PLACE, b"".join(b'<meta id="%s" name="no-maps" content="">' % one for one in ids))


def load_assets() -> dict[str, Asset]:
    """By path. The page's own files are asked for again each time, plotly's script once a day."""
    found, plotly = {}, files("plotly").joinpath("package_data", PLOTLY).read_bytes()
    for one in files("uniqdb_cli.web").joinpath("page").iterdir():
        if one.is_file() and one.name[one.name.rfind(".") :] in _TYPES:
            is_page, body = one.name == "index.html", one.read_bytes()
            body = _without_own_styles(body, plotly) if is_page else body
            found["/" if is_page else f"/assets/{one.name}"] = _asset(one.name, body)
    return {**found, f"/assets/{PLOTLY}": _asset(PLOTLY, plotly, 86_400)}
