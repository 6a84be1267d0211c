"""What a visit is: the rules for ``ts`` and ``uid``, verdicts, and the reasons for a refusal."""

import datetime
import math
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum

import msgspec
import numpy as np
import numpy.typing as npt

from uniqdb.errors import UsageError
from uniqdb.field_settings import UNITS_PER_S
from uniqdb.limits import EVENT_TIME_S_MAX, EVENT_TIME_S_MIN, UID_BYTES_MAX
from uniqdb.uid_batch import UidBatch, Uids, hashes_of

I64Array = npt.NDArray[np.int64]


class Verdict(StrEnum):
    """What became of a visit."""

    ACCEPTED = "accepted"
    HELD = "held"
    AHEAD = "ahead"
    TOO_LATE = "too_late"
    IMPLAUSIBLE = "implausible"
    EXPIRED = "expired"
    INVALID = "invalid"


class Reason(StrEnum):
    """Why a record is in quarantine (persisted)."""

    MALFORMED = "malformed"
    TOO_LONG = "too_long"
    TOO_DEEP = "too_deep"
    NOT_AN_OBJECT = "not_an_object"
    NO_TS = "no_ts"
    NO_UID = "no_uid"
    BAD_TS = "bad_ts"
    BAD_UID = "bad_uid"
    IMPLAUSIBLE = "implausible"
    AHEAD = "ahead"
    TOO_LATE = "too_late"
    DAMAGED = "damaged"
    NO_VALUE = "no_value"


class Refused(msgspec.Struct, frozen=True):
    """A record that is not a visit. ``line`` counts from 0 within its block, ``start`` is its offset there."""

    line: int
    start: int
    record: bytes
    reason: Reason


class Visits(msgspec.Struct):
    """Valid visits in the order of their source: event times in Unix seconds, uids of 1 to 1,024 UTF-8 bytes."""

    event_times_s: I64Array
    uids: Uids
    refused: list[Refused] = msgspec.field(default_factory=list)
    records: int = 0
    """Records read: visits and refused ones, without blank lines."""
    lines: list[int] | None = None
    """In which line of its block (from 0) each visit stands; None: every line is one."""

    def line_of(self, visit: int) -> int:
        """The line of a visit within its block, from 0."""
        return visit if self.lines is None else self.lines[visit]

    def __len__(self) -> int:
        return len(self.uids)


# ---------------------------------------------------------------- the rules for ts and uid
def seconds_of(values: Sequence[object], unit: str, *, are_integers: bool | None = None) -> I64Array | None:
    """Event times in seconds if every one of them is a plausible time of the unit (the usual case), else None.

    ``are_integers``: whether all are plain ones, where the caller knows that.
    """
    if are_integers is None:
        are_integers = set(map(type, values)) == {int}
    try:
        if unit != "iso8601" and are_integers:
            times = np.array(values, np.int64)
            if unit != "s":
                times //= UNITS_PER_S[unit]
        else:
            times = np.array([event_time_s(value, unit) for value in values], np.int64)
    except (OverflowError, TypeError):  # too large, or None for a value that is no time
        return None
    return times if plausible(times).all() else None


def uids_of(values: Sequence[object]) -> list[str] | None:
    """The uids if every one of them is allowed (the usual case: short strings), else None."""
    if set(map(type, values)) == {str}:
        sizes = list(map(len, values))  # type: ignore[arg-type]  # all are str
        if min(sizes) >= 1 and max(sizes) <= UID_BYTES_MAX // 4:
            return values  # type: ignore[return-value]  # all are str
    texts = [text for value in values if (text := uid_text(value)) is not None]
    return texts if len(texts) == len(values) else None


def batch_of(values: Sequence[object], hash_seed: int | None = None) -> UidBatch | None:
    """The uids in one piece if every one of them is allowed (the usual case: strings), else None.

    ``hash_seed``: of the store for which their hashes are worked out, too.
    """
    texts: Sequence[str] = values  # type: ignore[assignment]  # TypeError is what the except is for
    try:
        batch = UidBatch.of(texts)
    except TypeError:
        found = uids_of(values)
        if found is None:
            return None
        texts, batch = found, UidBatch.of(found)
    except (UnicodeEncodeError, OverflowError):  # a lone surrogate, or more than 65,535 bytes
        return None
    if batch.lengths.min(initial=1) < 1 or batch.lengths.max(initial=1) > UID_BYTES_MAX:
        return None
    if hash_seed is None:
        return batch
    return UidBatch(batch.raw, batch.lengths, hashes_of(list(map(str.encode, texts)), hash_seed))


def plausible(times_s: I64Array) -> npt.NDArray[np.bool_]:
    """Which event times lie within the fixed limits."""
    return (times_s >= EVENT_TIME_S_MIN) & (times_s < EVENT_TIME_S_MAX)


def check_one(ts: object, uid: object, unit: str) -> tuple[int, str] | Reason:
    """(event time in seconds, uid) of one visit, or why it is refused."""
    time_s = event_time_s(ts, unit)
    if time_s is None:
        return Reason.BAD_TS
    text = uid_text(uid)
    if text is None:
        return Reason.BAD_UID
    if not EVENT_TIME_S_MIN <= time_s < EVENT_TIME_S_MAX:
        return Reason.IMPLAUSIBLE
    return time_s, text


def decodable(ts: object, uid: object, unit: str) -> tuple[int | None, str | None]:
    """The event time, where it is one that fits into 64 bits, and the uid, where it is one."""
    time_s = event_time_s(ts, unit)
    return None if time_s is None or not -(2**63) <= time_s < 2**63 else time_s, uid_text(uid)


def event_time_s(ts: object, unit: str) -> int | None:
    """The event time in Unix seconds: an integer, text holding one, a finite float; fractions are floored."""
    if isinstance(ts, np.integer | np.floating):
        ts = ts.item()
    if isinstance(ts, bool):
        return None
    if unit == "iso8601":
        return _iso_s(ts) if isinstance(ts, str) else None
    if isinstance(ts, str):
        digits = ts[1:] if ts[:1] == "-" else ts
        if not digits.isascii() or not digits.isdigit() or len(digits) > 20:
            return None
        ts = int(ts)
    if isinstance(ts, int):
        return ts // UNITS_PER_S[unit]
    if isinstance(ts, float) and math.isfinite(ts):
        return math.floor(ts) // UNITS_PER_S[unit]
    return None


def _iso_s(text: str) -> int | None:
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return math.floor(moment.timestamp())
    except (ValueError, OverflowError):
        return None


def encoded_uids(uids: Sequence[object]) -> list[bytes]:
    """The bytes of `uid_text` of each, none of what is no uid.

    Cost: 0.1 us each, if all are what nearly all are: ASCII of at most 1,024 characters.
    """
    try:
        texts: list[str] = list(uids)  # type: ignore[arg-type]  # whatever is no text is refused by `join`
        joined = "".join(texts)
    except TypeError:
        joined = "\x80"
    if joined.isascii() and max(map(len, texts), default=0) <= UID_BYTES_MAX:
        return list(map(str.encode, texts))
    return [(uid_text(uid) or "").encode() for uid in uids]


def uid_text(uid: object) -> str | None:
    """The uid as text: a string of 1 to 1,024 UTF-8 bytes as it is, an integer as decimal text; else None."""
    if isinstance(uid, str):
        if not uid or len(uid) > UID_BYTES_MAX:
            return None
        if len(uid) > UID_BYTES_MAX // 4 or not uid.isascii():
            try:
                if len(uid.encode()) > UID_BYTES_MAX:
                    return None
            except UnicodeEncodeError:  # a lone surrogate has no UTF-8
                return None
        return uid
    if isinstance(uid, int | np.integer) and not isinstance(uid, bool):
        text = str(int(uid)) if abs(int(uid)) < 10**UID_BYTES_MAX else ""
        return text if 0 < len(text) <= UID_BYTES_MAX else None
    return None


def check_many(
    times: Iterable[object], uids: Iterable[object], on_refused: Callable[[object, object, Reason], None]
) -> Visits:
    """Visits from two equally long iterables given by a caller; refused ones go to ``on_refused``.

    Integers and strings of usual size are checked as arrays; only otherwise one by one.
    """
    raw_times = times.tolist() if isinstance(times, np.ndarray) else list(times)
    raw_uids = uids.tolist() if isinstance(uids, np.ndarray) else list(uids)
    if len(raw_times) != len(raw_uids):
        raise UsageError(f"{len(raw_times)} event times but {len(raw_uids)} uids", hint="give two of equal length")
    if raw_times:
        times_s, texts = seconds_of(raw_times, "s"), uids_of(raw_uids)
        # isascii: a lone surrogate cannot be in an ASCII string; others are encoded to find out.
        if times_s is not None and texts is not None and "".join(texts).isascii():
            return Visits(times_s, texts, records=len(texts))
    kept_times: list[int] = []
    kept_uids: list[str] = []
    for ts, uid in zip(raw_times, raw_uids, strict=True):
        outcome = check_one(ts, uid, "s")
        if isinstance(outcome, Reason):
            on_refused(ts, uid, outcome)
        else:
            kept_times.append(outcome[0])
            kept_uids.append(outcome[1])
    return Visits(np.array(kept_times, np.int64), kept_uids, records=len(raw_times))
