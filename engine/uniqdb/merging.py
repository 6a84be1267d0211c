"""Several stores of one time zone made into a new one: their visitors united, their visits added."""

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from uniqdb.again import Standing, next_standing
from uniqdb.assembly import Assembly, NewStore
from uniqdb.audit import AUDIT_PREFIX, ErasureRow
from uniqdb.content import PARTS, Content, StoreContent
from uniqdb.creation import new_hash_seed
from uniqdb.errors import UsageError, WindowNotKept
from uniqdb.format import Database
from uniqdb.manifest import Manifest
from uniqdb.meta import SourceRow, StateRow, with_gaps
from uniqdb.new_place import new_store, refuse_taken, refuse_within
from uniqdb.options import DictionarySizes
from uniqdb.quarantine import CountedRow
from uniqdb.several_stores import assert_one_zone, real_paths
from uniqdb.store import Store

_OF_SOURCES = ("sources", "clocks", "held")


@dataclass(frozen=True, slots=True)
class Merging:
    """How. ``now_s``: the wall clock, Unix seconds. ``drop_sources``: the new store knows none of their sources."""

    now_s: int
    drop_sources: bool = False
    sizes: DictionarySizes = field(default_factory=DictionarySizes)


@dataclass(frozen=True, slots=True)
class Merged:
    """What is there now. ``memberships``: visitors of the stores, one by one, before those that are the same."""

    store_uuid: str
    visits: int
    uids: int
    memberships: int


def merge_stores(
    paths: Sequence[str | os.PathLike[str]],
    into: str | os.PathLike[str],
    how: Merging,
    *,
    on_progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> Merged:
    """Make a new store that holds what all of them hold, each as of its newest commit.

    Members are united, visits added; the revision is the largest. It is closed as far as all stores are that still
    wait for a source; with none, as far as the one that is furthest: a bucket in that is final, or amended if it is in
    one of them; a later one is provisional. Sources go on where they stood. The new store has a uuid of its own.
    Cost: everything once; memory: 12 bytes for each visitor's number in each store, and one set of each store.
    Raises UsageError (other time zones, one source in two of them, a store named twice), NotFound, StoreCorrupt,
    WindowNotKept if one of them was swept, CannotWrite if ``into`` exists.
    """
    target = Path(into).absolute()
    refuse_taken(target)
    for path in real_paths(paths, "its visits would be counted twice; name each once"):
        refuse_within(target, path)
    with ExitStack() as stack:
        contents = [_open(stack, Path(path)) for path in paths]
        _assert_mergeable(contents)
        sources = [_sources(content) for content in contents]
        _assert_disjoint(contents, sources, how)
        standings = [Standing(one.head.epoch, one.head.state.commit_number, one.layout) for one in contents]
        standing = next_standing(how.now_s, standings, is_complete=True)
        state, through_s = _joined_state(contents, sources, how)
        new = NewStore(str(uuid.uuid4()), contents[0].head.zone(), new_hash_seed(), standing, how.sizes)
        with new_store(target, Manifest(new.store_uuid)) as fresh:
            assembly = Assembly(fresh, fresh.directory, new, on_progress)
            assembly.uids([*contents])
            assembly.buckets([*contents], through_s)
            assembly.rows(_rows(contents, how))
            uids = assembly.meta(state, {})
    return Merged(new.store_uuid, state.visits, uids, sum(one.head.uids for one in contents))


def _open(stack: ExitStack, path: Path) -> StoreContent:
    store = Store(path.absolute(), read_only=True)
    stack.callback(store.close)
    return StoreContent(store.pin(), store.manifest.store_uuid, str(path))


def _assert_mergeable(contents: Sequence[Content]) -> None:
    for one in contents:
        if one.head.members_from_s:
            raise WindowNotKept(
                f"{one.name} was swept: how many visitors of its old buckets are those of the others is not known",
                hint="merge stores before they are swept",
            )
    assert_one_zone(
        [(one.name, one.head.timezone, one.head.tzif) for one in contents],
        "bring one into the other's zone: `uniqdb dump` it, and `uniqdb load --timezone`",
    )


def _sources(content: StoreContent) -> dict[bytes, SourceRow]:
    return {one.key: one.row for one in content.rows() if isinstance(one.row, SourceRow)}


def _assert_disjoint(contents: Sequence[Content], sources: list[dict[bytes, SourceRow]], how: Merging) -> None:
    if how.drop_sources:
        for content, rows in zip(contents, sources, strict=True):
            held = sum(row.held for row in rows.values())
            if held:
                raise UsageError(
                    f"{content.name} holds {held:,} visits that are neither counted nor refused yet, as its sources go "
                    "on",
                    hint="end them first, with `uniqdb clock reset SOURCE --end`",
                )
        return
    seen: dict[bytes, str] = {}
    for content, rows in zip(contents, sources, strict=True):
        for key, row in rows.items():
            if key in seen:
                raise UsageError(
                    f"the source {row.name} is in {seen[key]} and in {content.name}",
                    hint="if both have read other parts of it, --drop-sources forgets how far; else it counts twice",
                )
            seen[key] = content.name


def _joined_state(
    contents: Sequence[Content], sources: list[dict[bytes, SourceRow]], how: Merging
) -> tuple[StateRow, int | None]:
    """The state of the new store, and how far it is closed."""
    states = [content.head.state for content in contents]
    open_ones = [
        state
        for state, rows in zip(states, sources, strict=True)
        if not how.drop_sources and any(row.is_waited_for for row in rows.values())
    ]
    if open_ones:
        through_s = _least([state.closed_through_s for state in open_ones])
        clock_s = _smallest(state.clock_s for state in open_ones)
    else:
        through_s = _largest(state.closed_through_s for state in states)
        clock_s = _largest(state.clock_s for state in states)
    ended_s = _largest(state.ended_clock_s for state in states)
    gaps = with_gaps((), (gap for state in states for gap in state.gaps))
    return StateRow(
        visits=sum(state.visits for state in states),
        event_time_s_min=min(
            (one.event_time_s_min for one in states if one.event_time_s_min is not None), default=None
        ),
        event_time_s_max=_largest(state.event_time_s_max for state in states),
        quarantined=_sum(state.quarantined for state in states),
        quarantine_next_id=sum(state.quarantine_kept for state in states),
        quarantine_rows=sum(state.quarantine_kept for state in states),
        clock_s=clock_s,
        ended_clock_s=ended_s if open_ones else _largest([ended_s, clock_s]),
        closed_through_s=through_s,
        reference_s=_largest(state.reference_s for state in states),
        late_visits=_sum(state.late_visits for state in states),
        discarded=_sum(state.discarded for state in states),
        gaps=gaps,
        expired=sum(state.expired for state in states),
        skipped=_sum(state.skipped for state in states),
    ), through_s


def _largest(values: "Iterator[int | None] | list[int | None]") -> int | None:
    return max((value for value in values if value is not None), default=None)


def _smallest(values: "Iterator[int | None]") -> int | None:
    return min((value for value in values if value is not None), default=None)


def _least(values: list[int | None]) -> int | None:
    """None, "not yet", is less than any."""
    known = [value for value in values if value is not None]
    return min(known) if len(known) == len(values) else None


def _sum(counts: "Iterator[dict[str, int]]") -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


def _rows(contents: Sequence[StoreContent], how: Merging) -> Iterator[tuple[Database, bytes, msgspec.Struct]]:
    """The small rows of the new store, in the order of `PARTS`."""
    for part in PARTS:
        rows = ((one.key, one.row) for content in contents for one in content.part(part))
        if part.name in _OF_SOURCES:
            if not how.drop_sources:
                yield from ((part.database, key, row) for key, row in sorted(rows, key=lambda one: one[0]))
        elif part.name == "quarantine":
            yield from ((part.database, number.to_bytes(8, "big"), row) for number, (_, row) in enumerate(rows))
        elif part.name == "quarantine-counted":
            yield from ((part.database, key, row) for key, row in sorted(_counted(rows).items()))
        else:
            audits = [row for _, row in rows if isinstance(row, ErasureRow)]
            for number, audit in enumerate(sorted(audits, key=lambda one: one.at_s), start=1):
                yield part.database, AUDIT_PREFIX + number.to_bytes(8, "big"), audit


def _counted(rows: Iterator[tuple[bytes, msgspec.Struct]]) -> dict[bytes, CountedRow]:
    """Refused records that are only counted: of one source, for one reason, added."""
    joined: dict[bytes, CountedRow] = {}
    for key, row in rows:
        assert isinstance(row, CountedRow)
        before = joined.get(key)
        joined[key] = (
            row
            if before is None
            else msgspec.structs.replace(
                before,
                count=before.count + row.count,
                last_position=row.last_position,
                last_line=row.last_line,
            )
        )
    return joined
