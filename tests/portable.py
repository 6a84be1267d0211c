"""For tests of dumps and merged stores: a store with a bit of everything, and all that can be asked of it."""

import io
import shutil
from pathlib import Path
from typing import Any

import msgspec

import uniqdb
from engines import TINY, options
from model import GRANULARITIES
from uniqdb.backup import backup
from uniqdb.change_set import ChangeSet
from uniqdb.dump import dump
from uniqdb.forgetting import forget
from uniqdb.format import BucketRow, Database, MembersState, bucket_key
from uniqdb.granularity import Granularity
from uniqdb.horizons import RetentionRow, write_retention
from uniqdb.intake import read_held, read_judge_state
from uniqdb.loading import Loaded, Loading, load
from uniqdb.meta import read_sources, read_state
from uniqdb.quarantine import read_counted, read_quarantine
from uniqdb.store import Store

T = 1_468_244_340
ZONE = "Europe/Zurich"
HOW = Loading(now_s=1_800_000_000, sizes=TINY)
OF_THE_COPY = {"commit_number", "publishes"}


def fill(path: Path, number: int = 0) -> None:
    """Visits of calls and of sources, held ones, refused ones, closed buckets, and a visitor who was forgotten.

    A backup of a live store: its source is still open.
    """
    live = path.with_name(path.name + ".live")
    times = [T + at * 2_941 for at in range(600)]
    uids = [f"visitor-{(at * 7919 + number * 50) % 200:03}" for at in range(600)]
    uids[:3] = ["ü", "a\nb", "\u2028" * 300]
    with uniqdb.open(live, options=options(150), timezone=ZONE) as db:
        db.add_many(times[:300], uids[:300])
        db.add_many(times[300:], uids[300:], source=f"shop-{number}")
        db.add_many([T + 10**8, "yesterday", 5], ["held", "refused", "implausible"], source=f"shop-{number}")
        db.add_new_data(T, "")
        db.commit()
        forget(db, [f"visitor-{number:03}"], keep_counts=True)
        forget(db, [f"visitor-{number + 1:03}"])
        db.add_many(times[:100], uids[100:200])
        db.commit()
        backup(db, path)
    shutil.rmtree(live)


def everything(path: Path) -> dict[str, Any]:
    """All answers of a store, and all that it remembers of sources and refused records."""
    with uniqdb.open(path, read_only=True) as db, db.snapshot() as snapshot:
        view = snapshot.answers.view
        records = [record for kind in GRANULARITIES for record in db.series(kind)]
        sources = list(read_sources(view))
        state = msgspec.to_builtins(read_state(view))
        return {
            "records": [msgspec.structs.replace(record, epoch=0) for record in records],
            "members": {
                (record.granularity, record.start_ts): sorted(db.members(record.granularity, record.start_ts))
                for record in records
            },
            "state": {name: value for name, value in state.items() if name not in OF_THE_COPY},
            "sources": sources,
            "clocks": [read_judge_state(view, key) for key, _ in sources],
            "held": read_held(view, b""),
            "quarantine": [*read_quarantine(view), *read_counted(view)],
            "erasures": db.info().erasures,
            "uids": db.info().uids,
            "zone": (db.timezone, db.zone.tzif_bytes),
        }


def sweep_minute(path: Path, start_s: int) -> None:
    """Drop the members of a store's first minute, a small one, as a sweep does."""
    store = Store(path, read_only=False)
    try:
        view, key, changes = store.view(), bucket_key(Granularity.MINUTE, start_s), ChangeSet()
        payload = view.row(Database.BUCKETS, key)
        assert payload is not None
        row = BucketRow.unpack(key, payload)
        assert row.members is MembersState.INLINE
        changes.put_row(Database.BUCKETS, key, row._replace(members=MembersState.SWEPT, inline=b"").pack())
        write_retention(changes, RetentionRow(members_from_s={"minute": start_s + 60}))
        store.commit(changes, based_on=view.txn_id)
    finally:
        store.close()


def dumped(path: Path) -> bytes:
    out = io.BytesIO()
    dump(path, out)
    return out.getvalue()


def loaded(content: bytes, path: Path, how: Loading = HOW) -> Loaded:
    return load(io.BytesIO(content), path, how)
