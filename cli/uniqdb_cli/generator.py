"""Made-up visits as JSON lines: the same settings give the same bytes, on every version of Python and numpy.

All draws are outputs of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014), taken
by number, so that record 1,000,000 does not depend on how the records before it were cut into blocks. numpy's own
generators may change their streams between versions. What is drawn stays in integers, because the last digit of a
power or a sine may differ between machines.

A record has its event time in ``ts``, its uid of 19 or 20 hex digits in ``uid``, and other keys around them in any
order, some of which nest objects with a ``uid`` and ``ts`` of their own that must not count.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from uniqdb.errors import UsageError
from uniqdb_cli.record_templates import RECORD_BYTES_MAX, RECORD_BYTES_MIN, RecordTemplate, make_templates
from uniqdb_cli.splitmix import draw_at, draw_one

U64Array = npt.NDArray[np.uint64]
I64Array = npt.NDArray[np.int64]

START_S = 1_468_195_200
"""2016-07-11T00:00:00Z, a Monday."""
USERS_MAX = 2**32 - 1
SKEW_MAX = 8.0
BLOCK_BYTES = 4 * 1024 * 1024
BLOCK_RECORDS_MAX = 16_384
FLIPPED_BITS = 63
"""A flipped bit is one of the lower 63, so that the result is still an integer that is not negative."""

DAY_S, HOUR_S = 86_400, 3_600
HOUR_WEIGHTS = (6, 4, 3, 2, 2, 3, 6, 10, 15, 20, 23, 24, 25, 24, 23, 22, 22, 22, 24, 26, 26, 23, 17, 12)
"""How busy each hour (UTC) is with a daily rhythm. The mean is 16, so a day has 86,400 times 16 shares."""
DAY_SHARES = HOUR_S * sum(HOUR_WEIGHTS)
_HOUR_FIRST_SHARES = np.concatenate([[0], np.cumsum(HOUR_WEIGHTS)]) * HOUR_S

assert len(HOUR_WEIGHTS) == 24
assert DAY_SHARES == 16 * DAY_S

# The purposes of draws; each has a stream of its own. Changing a number changes the output.
_USER, _TEMPLATE, _LATE, _LATE_BY, _FLIP, _FLIP_BIT, _MALFORMED, _KIND, _UID_HIGH, _UID_LOW = range(1, 11)


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with the records: shares from 0 to 1. Late visits come 1 to ``late_s_max`` seconds late."""

    late_share: float = 0.0
    late_s_max: int = 5
    flipped_share: float = 0.0
    malformed_share: float = 0.0

    def __post_init__(self) -> None:
        for share in (self.late_share, self.flipped_share, self.malformed_share):
            if not 0.0 <= share <= 1.0:
                raise UsageError(f"{share} is not a share", hint="shares go from 0 to 1: 0.01 is one in a hundred")
        if not 1 <= self.late_s_max <= 2**31:
            raise UsageError(f"late by at most {self.late_s_max} seconds", hint="give at least 1 second")


@dataclass(frozen=True, slots=True)
class GeneratorSettings:
    """What to generate: ``records`` lines (malformed ones included) over ``duration_s`` seconds from ``start_s`` on.

    ``skew`` is the exponent of a Zipf-like law of how often each user comes, 0 for all alike. ``record_bytes`` is the
    length of a line with its line break, which short uids undercut by one. Raises UsageError for what is out of range.
    """

    records: int = 10_000
    duration_s: int = 10_000
    users: int = 1_000
    start_s: int = START_S
    seed: int = 1
    record_bytes: int = 300
    skew: float = 0.0
    daily_rhythm: bool = False
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        limits = (
            ("visits", self.records, 0, 10**12),
            ("users", self.users, 1, USERS_MAX),
            ("seed", self.seed, 0, 2**64 - 1),
            ("record bytes", self.record_bytes, RECORD_BYTES_MIN, RECORD_BYTES_MAX),
            ("skew", self.skew, 0, SKEW_MAX),
            ("seconds from start to end", self.duration_s, 1, 10**10),
            ("start", self.start_s, 0, 10**11),
        )
        for name, value, lowest, highest in limits:
            if not lowest <= value <= highest:
                raise UsageError(f"{name}: {value:,} is out of range", hint=f"give {lowest:,} to {highest:,}")
        if self.records * self.duration_s >= 2**57:
            raise UsageError(
                "so many visits over so long a time cannot be spread", hint="give fewer, or a shorter time"
            )


def generate_blocks(settings: GeneratorSettings) -> Iterator[bytes]:
    """Blocks of whole lines, together the whole output. Cost: about a microsecond per record of 300 bytes."""
    maker = LineMaker(settings)
    step = max(1, min(BLOCK_RECORDS_MAX, BLOCK_BYTES // settings.record_bytes))
    for first in range(0, settings.records, step):
        numbers = np.arange(first, min(first + step, settings.records), dtype=np.int64)
        yield maker.block(numbers, _arrivals_s(settings, numbers))


class LineMaker:
    """Makes the records of some numbers: the same number and event time give the same line."""

    def __init__(self, settings: GeneratorSettings) -> None:
        self._settings = settings
        self._templates = make_templates(settings.seed, settings.record_bytes)
        self._ranks = _RankLaw(settings.users, settings.skew)

    def block(self, numbers: I64Array, arrivals_s: I64Array) -> bytes:
        """The lines of the records, which happened at ``arrivals_s`` (Unix seconds) unless they are late or wrong."""
        settings = self._settings
        users = self._ranks.of(_draws(settings, _USER, numbers))
        uids = uids_of_users(settings, users)
        event_times_s = _with_faults(settings, numbers, arrivals_s)
        picks = (_draws(settings, _TEMPLATE, numbers) % np.uint64(len(self._templates))).tolist()
        lines = _lines([self._templates[pick] for pick in picks], uids, event_times_s.tolist())
        _spoil(settings, numbers, lines, (uids, event_times_s))
        return b"".join(lines)


def uids_of_users(settings: GeneratorSettings, users: npt.ArrayLike) -> list[bytes]:
    """The uids of users by number, from 0: 19 hex digits for one half of them, 20 for the other."""
    numbers = np.asarray(users, np.int64)
    raw = np.empty((len(numbers), 10), np.uint8)
    low = _draws(settings, _UID_LOW, numbers)
    raw[:, :8] = _draws(settings, _UID_HIGH, numbers).astype(">u8").view(np.uint8).reshape(-1, 8)
    raw[:, 8:] = low.astype(">u8").view(np.uint8).reshape(-1, 8)[:, :2]
    digits = _HEX_PAIRS[raw].view(np.uint8)
    digits[(low & np.uint64(1)).astype(bool), 19] = 0  # numpy drops zero bytes at the end of a text
    texts: list[bytes] = digits.view("S20").ravel().tolist()
    return texts


_HEX_PAIRS = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)


class _RankLaw:
    """Which user a draw means. User 0 comes most often if there is a skew.

    Users are put into strata that grow by an eighth; all users of one are equally frequent, and strata are drawn by the
    Zipf law's weight of their middle. So 32 bits of the draw pick the stratum, the others the user, without a float.
    """

    def __init__(self, users: int, skew: float) -> None:
        edges = [0, users]
        if skew:
            edges = [0]
            while edges[-1] < users:
                edges.append(min(users, edges[-1] + max(1, edges[-1] // 8)))
        self._first = np.array(edges[:-1], np.uint64)
        self._width: U64Array = np.array([end - start for start, end in pairwise(edges)], np.uint64)
        weights = [(end - start) * ((start + end + 1) / 2) ** -skew for start, end in pairwise(edges)]
        total, so_far, thresholds = math.fsum(weights), 0.0, []
        for weight in weights[:-1]:
            so_far += weight
            thresholds.append(round(so_far / total * 2**32))
        self._thresholds = np.array(thresholds, np.uint64)

    def of(self, draws: U64Array) -> I64Array:
        high, low = draws >> np.uint64(32), draws & np.uint64(0xFFFF_FFFF)
        stratum = np.searchsorted(self._thresholds, high, "right")
        return (self._first[stratum] + (self._width[stratum] * low >> np.uint64(32))).astype(np.int64)


def _draws(settings: GeneratorSettings, purpose: int, numbers: I64Array) -> U64Array:
    return draw_at(draw_one(settings.seed, purpose), numbers)


def _chosen(settings: GeneratorSettings, purpose: int, numbers: I64Array, share: float) -> npt.NDArray[np.intp]:
    """Positions of the records that a share falls on."""
    if not share:
        return np.empty(0, np.intp)
    return np.flatnonzero((_draws(settings, purpose, numbers) >> np.uint64(32)) < np.uint64(round(share * 2**32)))


def _arrivals_s(settings: GeneratorSettings, numbers: I64Array) -> I64Array:
    """Evenly spaced, or spaced by the daily rhythm."""
    if settings.daily_rhythm:
        first, end = _shares_until(settings.start_s), _shares_until(settings.start_s + settings.duration_s)
        return _times_of_shares(first + numbers * (end - first) // settings.records)
    return settings.start_s + numbers * settings.duration_s // settings.records


def _with_faults(settings: GeneratorSettings, numbers: I64Array, times_s: I64Array) -> I64Array:
    """Late visits are moved back, but not before the start; of some one bit is flipped."""
    faults = settings.faults
    late = _chosen(settings, _LATE, numbers, faults.late_share)
    by = (_draws(settings, _LATE_BY, numbers[late]) >> np.uint64(32)) * np.uint64(faults.late_s_max) >> np.uint64(32)
    times_s[late] = np.maximum(times_s[late] - 1 - by.astype(np.int64), settings.start_s)
    flipped = _chosen(settings, _FLIP, numbers, faults.flipped_share)
    bits = (_draws(settings, _FLIP_BIT, numbers[flipped]) % np.uint64(FLIPPED_BITS)).astype(np.int64)
    times_s[flipped] ^= np.int64(1) << bits
    return times_s


def _shares_until(time_s: int) -> int:
    day, in_day_s = divmod(time_s, DAY_S)
    hour, in_hour_s = divmod(in_day_s, HOUR_S)
    return day * DAY_SHARES + int(_HOUR_FIRST_SHARES[hour]) + in_hour_s * HOUR_WEIGHTS[hour]


def _times_of_shares(shares: I64Array) -> I64Array:
    """The inverse of `_shares_until`, floored to seconds."""
    day, in_day = np.divmod(shares, DAY_SHARES)
    hour = np.searchsorted(_HOUR_FIRST_SHARES, in_day, "right") - 1
    in_hour_s = (in_day - _HOUR_FIRST_SHARES[hour]) // np.array(HOUR_WEIGHTS)[hour]
    return (day * DAY_S + hour * HOUR_S + in_hour_s).astype(np.int64)


def _lines(templates: Sequence[RecordTemplate], uids: list[bytes], times_s: list[int]) -> list[bytes]:
    return [
        one.text % ((time_s, uid) if one.is_ts_first else (uid, time_s))
        for one, uid, time_s in zip(templates, uids, times_s, strict=True)
    ]


def _spoil(
    settings: GeneratorSettings, numbers: I64Array, lines: list[bytes], visits: tuple[list[bytes], I64Array]
) -> None:
    """Put something that is no visit in the place of some lines."""
    uids, times_s = visits
    bad = _chosen(settings, _MALFORMED, numbers, settings.faults.malformed_share)
    for at, draw in zip(bad.tolist(), _draws(settings, _KIND, numbers[bad]).tolist(), strict=True):
        lines[at] = _malformed(draw, lines[at], uids[at], int(times_s[at]))


def _malformed(draw: int, line: bytes, uid: bytes, time_s: int) -> bytes:
    ways = (
        line[: len(line) // 2],  # cut off
        line[1:-1],  # its beginning lost
        b"GET /index.html HTTP/1.1",
        b'{"uid":"\xff\xfe","ts":%d}' % time_s,
        b'["%b",%d]' % (uid, time_s),
        b'{"uid":"%b"}' % uid,
        b'{"ts":%d}' % time_s,
        b'{"uid":"%b","ts":"yesterday"}' % uid,
        b'{"uid":"%b","ts":null}' % uid,
        b'{"uid":null,"ts":%d}' % time_s,
        b'{"uid":"","ts":%d}' % time_s,
        b'{"uid":"%b","ts":-1}' % uid,
    )
    return ways[draw % len(ways)].rstrip(b"\n") + b"\n"
