"""Whatever stores hold: a dump loaded is the same, merged stores are the union, another zone is a fresh ingest."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

import uniqdb
from engines import TINY, assert_sound, options, rows_of
from model import Model
from portable import HOW, dumped, everything, loaded
from uniqdb.loading import Loading
from uniqdb.merging import Merging, merge_stores

ZONES = st.sampled_from(["UTC", "Europe/Zurich", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns"])
TIMES = st.integers(1_159_000_000, 1_159_000_000 + 60 * 86_400)  # over a change of the clocks in several of them
UIDS = st.one_of(st.integers(0, 90).map(str), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9))
VISITS = st.lists(st.tuples(TIMES, UIDS), max_size=150)


def fill(path: Path, zone: str, batches: list[list[tuple[int, str]]]) -> None:
    with uniqdb.open(path, options=options(40), timezone=zone) as db:
        for number, batch in enumerate(batches):
            db.add_many([time_s for time_s, _ in batch], [uid for _, uid in batch])
            db.commit()
            if number == 0:
                db.close_buckets()


@settings(max_examples=12)
@given(zone=ZONES, other=ZONES, shards=st.lists(st.lists(VISITS, max_size=3), min_size=2, max_size=4))
def test_in_and_out_again(zone: str, other: str, shards: list[list[list[tuple[int, str]]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"shard-{number}" for number in range(len(shards))]
        truth, elsewhere = Model(zone), Model(other)
        for path, shard in zip(paths, shards, strict=True):
            fill(path, zone, shard)
            for batch in shard:
                for model in (truth, elsewhere):
                    model.add([time_s for time_s, _ in batch], [uid for _, uid in batch])
        merged, again, abroad = (Path(folder) / name for name in ("merged", "again", "abroad"))
        merge_stores(paths, merged, Merging(1_800_000_000, sizes=TINY))
        content = dumped(merged)
        loaded(content, again, HOW)
        loaded(content, abroad, Loading(1_800_000_000, timezone=other, sizes=TINY))
        for path, model in ((merged, truth), (again, truth), (abroad, elsewhere)):
            assert_sound(path)
            with uniqdb.open(path, read_only=True) as db:
                assert rows_of(db) == model.rows()
                for (kind, start_s), members in model.members.items():
                    if kind in ("week", "year"):
                        assert set(db.members(kind, start_s)) == members
        assert everything(again) == everything(merged)
