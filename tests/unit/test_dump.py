"""A dump loaded is the same store; one that is not whole is refused and leaves nothing."""

import hashlib
import io
import json
import os
import random
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from pyroaring import BitMap

import uniqdb
from engines import assert_sound, options, rows_of
from model import Model
from portable import HOW, T, dumped, everything, fill, loaded, sweep_minute
from uniqdb.dump import dump
from uniqdb.errors import CannotWrite, InputRefused, UsageError, WindowNotKept


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dump") / "filled.uniqdb"
    fill(path)
    assert_sound(path)
    return path


@pytest.fixture(scope="module")
def content(filled: Path) -> bytes:
    return dumped(filled)


def entries(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = {}
        for info in tar:
            file = tar.extractfile(info)
            assert file is not None
            found[info.name] = file.read()
        return found


def packed(parts: dict[str, bytes]) -> bytes:
    """A dump of these entries, with right sums."""
    sums = "".join(f"{hashlib.sha256(part).hexdigest()}  {name}\n" for name, part in parts.items())
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, part in {**parts, "SHA256SUMS": sums.encode()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(part)
            tar.addfile(info, io.BytesIO(part))
    return out.getvalue()


def test_dump_and_load_is_the_identity(filled: Path, content: bytes, store_path: Path) -> None:
    done = loaded(content, store_path)
    assert (done.epoch, done.timezone) == (1_800_000_000, "Europe/Zurich")
    assert everything(store_path) == everything(filled)
    with uniqdb.open(filled, read_only=True) as db:
        assert db.info().store_uuid == done.store_uuid


def test_a_dump_of_a_loaded_dump_has_the_same_answers(content: bytes, store_path: Path, tmp_path: Path) -> None:
    loaded(content, store_path)
    loaded(dumped(store_path), tmp_path / "twice", replace(HOW, as_new=True))
    assert everything(tmp_path / "twice") == everything(store_path)
    assert_sound(tmp_path / "twice")


def test_the_same_commit_gives_the_same_bytes(filled: Path, content: bytes) -> None:
    assert dumped(filled) == content


def test_a_loaded_store_goes_on_where_the_old_one_stood(content: bytes, store_path: Path) -> None:
    loaded(content, store_path)
    with uniqdb.open(store_path, options=options(300)) as db:
        found = db.add_many([T + 1_800_000, T + 10], ["one more", "visitor-007"], source="shop-0")
        assert sum(found.values()) == 2
        assert db.check_if_uid_exists("one more")
        assert not db.check_if_uid_exists("visitor-001")


def test_an_empty_store(store_path: Path, tmp_path: Path) -> None:
    with uniqdb.open(tmp_path / "empty", timezone="Asia/Tokyo"):
        pass
    assert loaded(dumped(tmp_path / "empty"), store_path).timezone == "Asia/Tokyo"
    assert everything(store_path) == everything(tmp_path / "empty")


def test_other_tools_can_read_it(filled: Path, tmp_path: Path) -> None:
    """tar takes it apart, sha256sum finds it whole, each set is Roaring in its portable form."""
    dump(filled, tmp_path / "visits.tar")
    assert (tmp_path / "visits.tar").stat().st_mode & 0o777 == 0o600
    folder = tmp_path / "apart"
    folder.mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "visits.tar", "-C", folder], check=True)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    lines = (folder / "uids/000000.jsonl").read_bytes().splitlines()
    uids = dict(json.loads(line).values() for line in lines)
    sets = (folder / "sets/000000.roaring").read_bytes()
    with uniqdb.open(filled, read_only=True) as db:
        for line in (folder / "buckets/000000.jsonl").read_text().splitlines():
            bucket = json.loads(line)
            start, size = bucket["set"]
            members = BitMap.deserialize(sets[start : start + size])
            assert len(members) == bucket["count"]
            named = {uids[ordinal] for ordinal in members if ordinal in uids}
            assert named == set(db.members(bucket["granularity"], bucket["start_ts"]))


def test_in_another_zone_it_is_what_a_fresh_ingest_would_be(store_path: Path, tmp_path: Path) -> None:
    times = [T + number * 3_571 for number in range(2_000)]
    uids = [f"visitor-{number * 7919 % 500:03}" for number in range(2_000)]
    with uniqdb.open(store_path, options=options(500), timezone="Europe/Zurich") as db:
        db.add_many(times, uids)
        db.close_buckets()
    done = loaded(dumped(store_path), tmp_path / "other", replace(HOW, timezone="Australia/Lord_Howe"))
    assert done.timezone == "Australia/Lord_Howe"
    model = Model("Australia/Lord_Howe")
    model.add(times, uids)
    with uniqdb.open(tmp_path / "other", options=options()) as db:
        assert rows_of(db) == model.rows()
        for (kind, start_s), members in model.members.items():
            if kind in ("day", "month"):
                assert set(db.members(kind, start_s)) == members
        db.add_many(times[:5], ["new"] * 5)
    assert_sound(tmp_path / "other")


def test_never_over_something(filled: Path, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(CannotWrite, match="there already"):
        loaded(content, tmp_path / "taken")
    with pytest.raises(CannotWrite, match="there already"):
        dump(filled, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"
    with pytest.raises(UsageError, match="Mars"):
        loaded(content, tmp_path / "new", replace(HOW, timezone="Mars/Base"))
    assert os.listdir(tmp_path) == ["taken"]


def test_a_truncated_or_altered_dump_is_refused_and_leaves_nothing(content: bytes, tmp_path: Path) -> None:
    rng = random.Random(3)
    data_end = content.rindex(b"SHA256SUMS")
    for number in range(60):
        if number % 2:
            harmed = content[: rng.randrange(len(content) - 20_000 if number % 4 == 1 else data_end)]
        else:
            at = rng.randrange(data_end)
            while not content[at]:  # padding of tar's is nobody's
                at = rng.randrange(data_end)
            harmed = content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
        try:
            loaded(harmed, tmp_path / "new")
        except InputRefused:
            pass
        else:
            assert entries(harmed) == entries(content), "only what tar keeps for itself was changed"
            assert everything(tmp_path / "new")
            (tmp_path / "new").rename(tmp_path.parent / f"harmless-{number}")
        assert os.listdir(tmp_path) == []


HARMS = {
    "a visit less": "and its years have",
    "a member less": "not as many members as its count",
    "a stranger": "whom the dictionary lacks",
    "a uid twice": "a uid is in it twice",
    "an hour less": "of the hours is missing",
    "a shift": "of the years has no month in it",
}


@pytest.mark.parametrize("harm", HARMS)
def test_right_sums_do_not_make_a_wrong_dump_right(content: bytes, tmp_path: Path, harm: str) -> None:
    parts = entries(content)
    del parts["SHA256SUMS"]
    lines = parts["buckets/000000.jsonl"].splitlines(keepends=True)
    uids = parts["uids/000000.jsonl"].splitlines(keepends=True)
    bucket = json.loads(lines[-1])
    if harm == "a visit less":
        lines[-1] = json.dumps({**bucket, "visits": bucket["visits"] - 1}).encode() + b"\n"
    elif harm == "a member less":
        lines[-1] = json.dumps({**bucket, "count": bucket["count"] - 1}).encode() + b"\n"
    elif harm == "a stranger":
        del uids[7]
    elif harm == "a uid twice":
        manifest = json.loads(parts["manifest.json"])
        uids.append(json.dumps({**json.loads(uids[0]), "ordinal": manifest["head"]["ordinals"]}).encode() + b"\n")
        manifest["head"]["ordinals"] += 1
        parts["manifest.json"] = json.dumps(manifest).encode()
    elif harm == "an hour less":
        del lines[next(at for at, line in enumerate(lines) if b'"hour"' in line)]
    else:
        lines[-1] = json.dumps({**bucket, "start_ts": bucket["start_ts"] + 60}).encode() + b"\n"
    parts["buckets/000000.jsonl"], parts["uids/000000.jsonl"] = b"".join(lines), b"".join(uids)
    with pytest.raises(InputRefused, match=HARMS[harm]):
        loaded(packed(parts), tmp_path / "new")
    assert os.listdir(tmp_path) == []


def test_right_sums_and_a_right_dump(content: bytes, filled: Path, store_path: Path) -> None:
    parts = entries(content)
    del parts["SHA256SUMS"]
    loaded(packed(parts), store_path)
    assert everything(store_path) == everything(filled)


@pytest.mark.parametrize("other", [b"", b"no tar", b"\0" * 20_000])
def test_something_else_is_refused(tmp_path: Path, other: bytes) -> None:
    with pytest.raises(InputRefused, match="no whole dump"):
        loaded(other, tmp_path / "new")


def test_a_newer_version_is_refused_in_words(content: bytes, tmp_path: Path) -> None:
    parts = entries(content)
    parts["manifest.json"] = parts["manifest.json"].replace(b'"version": 1', b'"version": 2')
    with pytest.raises(InputRefused, match="version 2"):
        loaded(packed(parts), tmp_path / "new")


def test_swept_members_stay_swept_and_no_day_is_made_of_them(store_path: Path, tmp_path: Path) -> None:
    with uniqdb.open(tmp_path / "old", options=options(), timezone="Europe/Zurich") as db:
        db.add_many([T, T + 60, T + 120], ["a", "b", "a"])
    sweep_minute(tmp_path / "old", T)
    content = dumped(tmp_path / "old")
    loaded(content, store_path)
    with uniqdb.open(store_path, read_only=True) as db:
        assert rows_of(db)["minute", T] == (1, 1)
        assert db.count("2016-07-11").count == 2
        with pytest.raises(WindowNotKept):
            db.count_between(T, T + 60 * 2)
    with pytest.raises(WindowNotKept, match="were swept"):
        loaded(content, tmp_path / "tokyo", replace(HOW, timezone="Asia/Tokyo"))
    assert not (tmp_path / "tokyo").exists()


def test_a_head_that_makes_no_sense(content: bytes, tmp_path: Path) -> None:
    parts = entries(content)
    del parts["SHA256SUMS"]
    manifest = json.loads(parts["manifest.json"])
    for name, value in (("ordinals", 2**60), ("ordinals", -1), ("tzif", "AAAA"), ("state", None)):
        parts["manifest.json"] = json.dumps({**manifest, "head": {**manifest["head"], name: value}}).encode()
        with pytest.raises(InputRefused):
            loaded(packed(parts), tmp_path / "new")
    assert os.listdir(tmp_path) == []
