"""``uniqdb query --new``, ``--returning``, ``--overlap-with``: visitors of a window against those of another time."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from uniqdb.errors import UsageError
from uniqdb_cli.output import TABLE_ROWS_MAX, label_columns, print_table, shorten_times, write_dicts
from uniqdb_cli.reading import parse_all, resolve_as_of
from uniqdb_cli.words import OutputFormat

if TYPE_CHECKING:
    from uniqdb.calendar_zone import CalendarZone
    from uniqdb.record import CountRecord
    from uniqdb.snapshot import Snapshot
    from uniqdb.visitor_questions import NewAndReturning, Overlap
    from uniqdb_cli.reading import Question

ALL = "all"
"""The look-back that is as long as what the store keeps."""
Table = tuple[str, list[str], list[list[str]]]
"""What is said above it, its own columns, and what stands in them."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is asked of the visitors of a window, if anything. ``before``: the look-back of the first two."""

    new: bool = False
    returning: bool = False
    overlap_with: str | None = None
    before: str | None = None

    @property
    def given(self) -> str | None:
        """The option that asks for it."""
        options = {"--new": self.new, "--returning": self.returning, "--overlap-with": self.overlap_with is not None}
        names = [name for name, is_given in options.items() if is_given]
        if len(names) > 1:
            raise UsageError(f"{' and '.join(names)} do not go together", hint="ask one after the other")
        return names[0] if names else None

    def assert_fits(self, question: "Question", *, plot: bool) -> None:
        """Raise UsageError for options that do not go together."""
        given = self.given
        if self.before is not None and given not in ("--new", "--returning"):
            raise UsageError("--before says how far is looked back", hint="give --new or --returning too")
        if given == "--overlap-with" and question.by is not None:
            raise UsageError("--by and --overlap-with do not go together", hint="ask for one window, or for --new")
        if given is not None and plot:
            raise UsageError(f"--plot and {given} do not go together", hint="leave one of them out")

    def answers(
        self, counted: Iterable["CountRecord"], snapshot: "Snapshot", question: "Question"
    ) -> Iterator["NewAndReturning | Overlap"]:
        """Each count, compared. Raises what the questions raise, and UsageError before the first."""
        zone = snapshot.answers.zone
        if self.overlap_with is not None:
            _assert_window(self.overlap_with, zone)
            as_of = resolve_as_of(question.as_of, zone)
            return (snapshot.overlap(one, self.overlap_with, as_of=as_of) for one in counted)
        before = self._look_back(zone)
        if question.by is not None:
            return snapshot.told_apart(counted, before=before)
        return (snapshot.new_and_returning(one, before=before) for one in counted)

    def _look_back(self, zone: "CalendarZone") -> str | None:
        from uniqdb.visitor_questions import BEFORE

        if self.before is None:
            return BEFORE
        if self.before == ALL:
            return None
        parse_all([self.before], zone, periods=False)
        return self.before

    def write(
        self,
        found: Iterator["NewAndReturning | Overlap"],
        form: OutputFormat,
        moment: Callable[[int], str],
    ) -> None:
        """On standard output, as they come; of an overlap who is in both is the value."""
        name = "new" if self.new else "returning" if self.returning else "both"
        if form is OutputFormat.TABLE:
            self._write_tables(found, moment)
        elif form is OutputFormat.VALUE:
            sys.stdout.writelines(f"{getattr(one, name)}\n" for one in found)
        else:
            write_records(found, self._columns(), form)

    def _columns(self) -> tuple[str, ...]:
        from uniqdb.visitor_questions import NewAndReturning, Overlap

        return (Overlap if self.overlap_with is not None else NewAndReturning).__struct_fields__

    def _write_tables(self, found: Iterator["NewAndReturning | Overlap"], moment: Callable[[int], str]) -> None:
        is_first = True
        while chunk := list(islice(found, TABLE_ROWS_MAX)):
            is_first = False
            head, labels = label_columns(chunk, moment)
            table = _overlap_table(chunk, moment) if self.overlap_with is not None else self._split_table(chunk, moment)
            title, columns, rows = table
            ends = [[one.status, "yes" if one.complete else "no"] for one in chunk]
            whole = [[*label, *row, *end] for label, row, end in zip(labels, rows, ends, strict=True)]
            start = f"Time zone {chunk[0].timezone}. `to` is not included. {title}"
            print_table(start, [*head, *columns, "status", "complete"], whole)
        if is_first:
            print("No visits there.")

    def _split_table(self, chunk: Sequence[Any], moment: Callable[[int], str]) -> Table:
        name = "new" if self.new else "returning"
        since = shorten_times([moment(one.since_ts) for one in chunk])
        rows = [
            [f"{one.count:,}", f"{getattr(one, name):,}", share(getattr(one, name), one.count), at]
            for one, at in zip(chunk, since, strict=True)
        ]
        seen = "not seen" if self.new else "also seen"
        columns = ["unique visitors#", f"{name}#", "share#", "since"]
        return f"{name.capitalize()}: {seen} from `since` to the start.", columns, rows


def _overlap_table(chunk: Sequence[Any], moment: Callable[[int], str]) -> Table:
    edges = [moment(at) for one in chunk for at in (one.other_start_ts, one.other_end_ts)]
    times = shorten_times(edges)
    rows = [
        [f"{one.count:,}", start, end, f"{one.other_count:,}", f"{one.both:,}", share(one.both, one.count)]
        for one, start, end in zip(chunk, times[::2], times[1::2], strict=True)
    ]
    columns = ["unique visitors#", "other from", "other to", "its visitors#", "in both#", "share#"]
    return "Share: of the first one's visitors.", columns, rows


def _assert_window(text: str, zone: "CalendarZone") -> None:
    from uniqdb.moments import is_trailing
    from uniqdb.snapshot import PREVIOUS

    if text != PREVIOUS:
        parse_all([text], zone, periods=not is_trailing(text))


def share(part: int, whole: int) -> str:
    """As people read it: ``12.3%``, or a dash where there is nothing to have a part of."""
    return f"{part / whole:.1%}" if whole else "-"


def write_records(found: Iterable[Any], columns: Sequence[str], form: OutputFormat) -> None:
    """Records on standard output as csv, json or jsonl: a field that is not set is left out, or empty."""
    import msgspec

    dicts: Iterator[dict[str, Any]] = (msgspec.to_builtins(one) for one in found)
    if form is OutputFormat.CSV:
        dicts = ({name: _csv_text(one.get(name)) for name in columns} for one in dicts)
    write_dicts(dicts, columns, form)


def _csv_text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
