"""What to tell a user whose input holds no visit: the keys that were seen and the flags to try."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from uniqdb.errors import InputRefused
from uniqdb.limits import EVENT_TIME_S_MAX, EVENT_TIME_S_MIN
from uniqdb.quarantine import Quarantined
from uniqdb.visit import FieldSettings

_KEYS_SHOWN = 12
_EXAMINED = 100
_TIME_WORDS = ("ts", "time", "timestamp", "datetime", "date", "at", "when", "epoch")
_UID_WORDS = ("uid", "user_id", "userid", "user", "visitor_id", "visitor", "id", "client_id", "cookie")


def explain_no_visit(source: str, refused: Sequence[Quarantined], fields: FieldSettings) -> InputRefused:
    """The error for an input whose first records hold no visit."""
    reasons = Counter(one.reason for one in refused).most_common(3)
    cause = ", ".join(f"{reason} {count:,}" for reason, count in reasons)
    message = f"{source} holds no visit in its first {len(refused):,} records ({cause})"
    records = _objects(refused)
    if not records:
        return InputRefused(message, hint="uniqdb reads one JSON object per line; nothing was stored")
    keys = Counter(key for record in records for key in record)
    seen = ", ".join(_printable(key) for key, _ in keys.most_common(_KEYS_SHOWN))
    advice = _advice(records, keys, fields)
    return InputRefused(message, hint=f"keys seen: {seen}; {advice}; nothing was stored")


def _objects(refused: Sequence[Quarantined]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for one in refused[:_EXAMINED]:
        try:
            record = msgspec.json.decode(one.record)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def _advice(records: list[dict[str, object]], keys: Counter[str], fields: FieldSettings) -> str:
    tips: list[str] = []
    if fields.ts_field not in keys:
        likely = _likely(keys, _TIME_WORDS)
        tips.append(f"try --ts-field {_printable(likely)}" if likely else "name the time with --ts-field")
    else:
        tips += _unit_tip([record.get(fields.ts_field) for record in records], fields)
    if fields.uid_field not in keys:
        likely = _likely(keys, _UID_WORDS)
        tips.append(f"try --uid-field {_printable(likely)}" if likely else "name the uid with --uid-field")
    return "; ".join(tips) or "check the values of the time and the uid"


def _likely(keys: Counter[str], words: Sequence[str]) -> str | None:
    lowered = {key.lower(): key for key in keys}
    for word in words:
        if word in lowered:
            return lowered[word]
    return next((lowered[key] for word in words[:3] for key in lowered if word in key), None)


def _unit_tip(values: Sequence[object], fields: FieldSettings) -> list[str]:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if numbers:
        middle = sorted(numbers)[len(numbers) // 2]
        for unit, per_s, words in (
            ("s", 1, "seconds"),
            ("ms", 10**3, "milliseconds"),
            ("us", 10**6, "microseconds"),
            ("ns", 10**9, "nanoseconds"),
        ):
            if EVENT_TIME_S_MIN <= middle / per_s < EVENT_TIME_S_MAX // 40 and unit != fields.ts_unit:
                return [f"values around {middle:.2g} look like {words}: --ts-unit {unit}"]
    texts = [value for value in values if isinstance(value, str)]
    if texts and fields.ts_unit != "iso8601" and texts[0][:4].isdigit() and "-" in texts[0]:
        return [f"values like {_printable(texts[0])} look like ISO 8601: --ts-unit iso8601"]
    return []


def _printable(text: str) -> str:
    """Control characters of the input must not reach a terminal."""
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown[:40]
