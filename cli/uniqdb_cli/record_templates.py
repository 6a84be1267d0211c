"""The part of a generated record that is not its uid and its time: other keys, of every type that JSON has."""

import json
from dataclasses import dataclass

from uniqdb.limits import LINE_BYTES_MAX
from uniqdb_cli.splitmix import Draws, draw_one

RECORD_BYTES_MIN = 64
RECORD_BYTES_MAX = LINE_BYTES_MAX - 64
"""A flipped bit lengthens ``ts`` by up to nine digits; the line must stay below the limit."""
TEMPLATES_MAX = 256
TEMPLATES_BYTES = 1024 * 1024

_UID_DIGITS, _TS_DIGITS = 20, 10
_NOTE = ',"note":""'
_NOTE_RESERVE_BYTES = 48
_STREAM = 100
"""Streams below this number belong to the records."""

_KEYS = (
    *("page", "referrer", "agent", "language", "country", "device", "screen", "campaign", "latency", "status"),
    *("bytes", "cached", "experiment", "cart", "items", "price", "currency", "tags", "geo", "flags"),
    *("query", "title", "section", "author", "depth", "clicks", "scroll", "consent", "client", "parent"),
)
_TEXTS = (
    *("/articles/exact-counts", "/search?q=unique+visitors", "https://example.org/a/b?c=d&e=f", "de-CH", "en"),
    *("Zürich", "São Paulo", "Київ", "東京", "naïve café", 'says "hello"', "tab\there", "back\\slash", "two\nlines"),
    *(
        "100 % exact",
        "{not an object}",
        "smile \U0001f600",
        "",
        "Mozilla/5.0 (X11; Linux x86_64)",
        "(compatible; ExampleBot/2.1)",
    ),
)
_PROSE = "each visit is kept once however often the same visitor comes back and every window is counted exactly "


@dataclass(frozen=True, slots=True)
class RecordTemplate:
    """A line with two places to fill by ``%``: ``%b`` for the uid and ``%d`` for the event time, in the order told."""

    text: bytes
    is_ts_first: bool


def make_templates(seed: int, record_bytes: int) -> list[RecordTemplate]:
    """Different templates of one length, drawn from the seed. Cost: a few milliseconds per 100 KB."""
    count = max(16, min(TEMPLATES_MAX, TEMPLATES_BYTES // record_bytes))
    return [_template(Draws(draw_one(seed, _STREAM + number)), record_bytes) for number in range(count)]


def _template(draws: Draws, record_bytes: int) -> RecordTemplate:
    """Fields are added as long as they fit; a note fills what is left."""
    left = record_bytes - len('{"uid":"","ts":}\n') - _UID_DIGITS - _TS_DIGITS
    fields: list[str] = []
    while left > _NOTE_RESERVE_BYTES and len(fields) < 2_000:
        one = _field(draws, len(fields))
        size_bytes = len(one.encode()) + 1
        if size_bytes + _NOTE_RESERVE_BYTES > left:
            break
        fields.append(one)
        left -= size_bytes
    if left >= len(_NOTE):
        left -= len(_NOTE)
        start = draws.below(len(_PROSE))
        fields.append(f'"note":"{(_PROSE * (2 + left // len(_PROSE)))[start : start + left]}"')
    return _assemble(draws, fields)


def _assemble(draws: Draws, fields: list[str]) -> RecordTemplate:
    """The fields with uid and ts somewhere among them."""
    parts = [one.replace("%", "%%") for one in fields]
    uid_at, ts_at = draws.below(len(parts) + 1), draws.below(len(parts) + 2)
    parts.insert(uid_at, '"uid":"%b"')
    parts.insert(ts_at, '"ts":%d')
    return RecordTemplate(("{" + ",".join(parts) + "}\n").encode(), ts_at <= uid_at)


def _field(draws: Draws, number: int) -> str:
    """One key with its value; ``number`` makes the key unlike those before it."""
    key = _KEYS[draws.below(len(_KEYS))] + (f"_{number}" if number else "")
    # Half of the records' other letters are escaped, half are UTF-8.
    text = json.dumps({key: _value(draws, 0)}, ensure_ascii=draws.below(2) == 0, separators=(",", ":"))
    return text[1:-1]


def _value(draws: Draws, depth: int) -> object:
    kind = draws.below(12 if depth < 2 else 8)
    if kind <= 3:
        return _TEXTS[draws.below(len(_TEXTS))]
    if kind == 4:
        return draws.below(1_000_000) - 500_000
    if kind == 5:
        return draws.below(1_000_000) / 64
    if kind <= 7:
        return (True, False, None)[draws.below(3)]
    if kind == 8:
        return [_value(draws, depth + 1) for _ in range(draws.below(4))]
    if kind == 9:
        return {}
    # Not the visit's own: only the keys at the top count.
    decoy: dict[str, object] = {"uid": f"{draws.below(2**62):019x}", "ts": 1_400_000_000 + draws.below(10**8)}
    return decoy if kind == 10 else {"n": _value(draws, depth + 1), **decoy}
