"""The stores of every format, row by row as hexadecimal text: what is written today, and that all can be read.

    PYTHONPATH=engine:tests python tests/format/test_golden.py > tests/format/golden_v2.txt

writes the file anew. That is right only together with a new format version: stores of the old one are out there.
"""

import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import structs

import uniqdb
from engines import options, rows_of
from format.golden import STORE_UUID, ZONE, lay_out, rows
from model import Model
from uniqdb.calendar_zone import CalendarZone
from uniqdb.creation import write_empty_store
from uniqdb.format import FORMAT_VERSION, READABLE_VERSIONS
from uniqdb.intake import HeldRow, Place, open_intake, read_held
from uniqdb.manifest import read_manifest
from uniqdb.meta import SourceRow
from uniqdb.outbox import read_due, read_outbox
from uniqdb.quarantine import Quarantined, read_quarantine
from uniqdb.stream.emission import work_out
from uniqdb.writer import nothing

GOLDEN = {version: Path(__file__).with_name(f"golden_v{version}.txt") for version in sorted(READABLE_VERSIONS)}
TIMES = [1_468_244_384 + step * step * 977 for step in range(90)]
UIDS = [f"visitor-{step % 37:02d}" + "é" * (step % 3) for step in range(90)]
CROWD = [f"crowd-{number}" for number in range(80)]
"""From format 2 on: a minute of so many that they do not stand in its row."""
SOURCE_KEY = b"source-of-16-bytes"[:16]
SOURCE_TIMES = [1_476_000_000 + 10 * step for step in range(40)]
SOURCE_UIDS = [f"reader-{step % 9}" for step in range(40)]
"""From format 2 on: a source with a clock, which closes most of the others' buckets, ..."""
LATE_TIME_S, HELD_TIME_S = TIMES[0] + 6, SOURCE_TIMES[-1] + 5 * 3_600
"""... a late visit of a call, and one of the source that is held."""
CLOSED_DAYS = 90
"""From the first visit's day, 2016-07-11, to 2016-10-08; the clock stands in the day after."""


def write_store(path: Path) -> None:
    """The golden store: 90 visits in commits of 20, a crowd in two commits, a source, a refused record, a late visit.

    The source is not at its end, and holds a visit. It closes buckets in its first commit. In the end the store begins
    to publish.
    """
    write_empty_store(path, CalendarZone.from_name(ZONE), STORE_UUID, 7)
    with uniqdb.open(path, options=options(20)) as db:
        for first in range(0, 90, 20):
            db.add_many(TIMES[first : first + 20], UIDS[first : first + 20])
            db.commit()
        for first in (0, 70):
            db.add_many([TIMES[0]] * len(CROWD[first:]), CROWD[first:])
            db.commit()
        source = SourceRow(name="visits.jsonl", ts_field="ts", uid_field="uid", ts_unit="s", position_bytes=99)
        refused = [Quarantined("malformed", "visits.jsonl", b"{bad", 12, 2)]
        intake = open_intake(None, SOURCE_KEY, source)
        for times, uids in ((SOURCE_TIMES, SOURCE_UIDS), ([HELD_TIME_S], ["late reader"])):
            reference_s = SOURCE_TIMES[-1] + 86_400
            intake.take(np.array(times, np.int64), list(uids), reference_s, lambda _: Place(77, 3, "0123456789abcdef"))
            taken = intake.cut(is_open=True)
            commit = nothing().then(taken, refused)
            source = msgspec.structs.replace(
                source,
                visits=source.visits + len(taken.uids),
                refused=1,
                held=intake.held,
                clock_s=intake.clock_s,
            )
            commit.sources[SOURCE_KEY] = source
            db.write(commit)
            intake.committed()
            refused = []
        db.add_new_data(LATE_TIME_S, UIDS[0])
        db.commit()
        publish(db)


def publish(db: uniqdb.Engine) -> None:
    """Let all be published; one bucket has been, and one window is worked out."""
    db.write(structs.replace(nothing(), is_publishing=True))
    with db.snapshot() as snapshot:
        view = snapshot.answers.view
        first, window = read_outbox(view, b"", b"\xff", 1)[0], next(read_due(view))
        db.write(
            structs.replace(nothing(), published={first.key: first.commit_number}, windows=[work_out(snapshot, window)])
        )


def test_the_same_visits_are_written_as_the_same_bytes(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    written = list(rows(tmp_path / "store"))
    golden = GOLDEN[FORMAT_VERSION].read_text().splitlines()
    # The zone's rules come from the machine's tzdata, whose files may be newer: all else must be the same.
    zone_row = "meta " + b"store".hex()
    assert [row for row in written if not row.startswith(zone_row)] == [
        row for row in golden if not row.startswith(zone_row)
    ]


@pytest.mark.parametrize("version", GOLDEN)
def test_the_recorded_store_is_read_checked_and_continued(store_path: Path, version: int) -> None:
    lay_out(store_path, f"v{version}")
    model = Model(ZONE)
    model.add(TIMES, UIDS)
    if version > 1:
        model.add([TIMES[0]] * 90, CROWD + CROWD[70:])
        model.add([*SOURCE_TIMES, LATE_TIME_S], [*SOURCE_UIDS, UIDS[0]])
    with uniqdb.open(store_path, timezone=ZONE, options=options()) as db:
        assert db.check().problems == []
        assert rows_of(db) == model.rows()
        info = db.info()
        assert [(source.name, source.position_bytes) for source in info.sources] == [("visits.jsonl", 99)]
        assert info.quarantined == {"malformed": 1}
        with db.snapshot() as snapshot:
            view, completeness = snapshot.answers.view, snapshot.completeness()
            assert [row.record for _, row in read_quarantine(view)] == [b"{bad"]
            held = [row for _, row in read_held(view, SOURCE_KEY)]
            outbox, due = read_outbox(view, b"", b"\xff", 10_000), list(read_due(view))
        statuses = {one.start_ts: one.status for one in db.series("minute")}
        if version > 1:
            assert held == [HeldRow(HELD_TIME_S, "late reader", 77, 3, "0123456789abcdef")]
            assert completeness.sources[0].clock_s == completeness.clock_s == SOURCE_TIMES[-20]
            assert completeness.closed_through_s == SOURCE_TIMES[-20] - 5
            assert completeness.sources[0].ahead_limit_s == 800, "80 steps of 10 s"
            assert (len(outbox), len(due)) == (len(model.rows()), 5 * CLOSED_DAYS - 1), (
                "one bucket less, one window more"
            )
            first, *others, last = statuses.values()
            assert (first, last) == ("amended", "provisional")
            assert others.count("final") > len(TIMES) - 10
        else:
            assert (held, completeness.clock_s, completeness.closed_through_s) == ([], None, None)
            assert (outbox, due) == ([], [])
            assert set(statuses.values()) == {"provisional"}
        assert read_manifest(store_path).format_version == FORMAT_VERSION, "older programs must refuse it from now on"
        db.add_many(TIMES, [f"new-{uid}" for uid in UIDS])
        model.add(TIMES, [f"new-{uid}" for uid in UIDS])
        assert rows_of(db) == model.rows()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder) / "store")
        sys.stdout.writelines(line + "\n" for line in rows(Path(folder) / "store"))
