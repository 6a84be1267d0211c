"""LMDB's pages, read without LMDB: sound files are found sound, whatever was done to them; damage is named."""

import random
from pathlib import Path

import pytest

import uniqdb
from engines import options
from uniqdb import page_walk
from uniqdb.errors import StoreCorrupt
from uniqdb.examination import examine
from uniqdb.format import Database, seal_fragment, seal_row
from uniqdb.lmdb_pages import PAGE_BYTES, PageFile, free_pages, problems_of, sub_trees
from uniqdb.lmdb_pages import Walk as PageWalk
from uniqdb.mending import holds, mended_key, mended_value

T = 1_468_244_340


def fill(path: Path, visits: int = 2_400, *, batches: int = 8) -> None:
    rng = random.Random(4)
    for _ in range(2):
        with uniqdb.open(path, options=options(visits // batches)) as db:
            for _ in range(batches):
                times = [T + rng.randrange(300_000) for _ in range(visits // batches)]
                db.add_many(times, [f"visitor-{rng.randrange(5_000)}" for _ in times])


def data_of(path: Path) -> Path:
    return path / "g1" / "data.mdb"


def flip(path: Path, at: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes((byte ^ (1 << bit),)))


@pytest.fixture
def data(store_path: Path, tmp_path: Path) -> Path:
    """A copy of a file with free pages, large values and trees of several levels."""
    fill(store_path)
    copy = tmp_path / "copy.mdb"
    copy.write_bytes(data_of(store_path).read_bytes())
    return copy


def test_a_sound_file_has_no_problem(data: Path) -> None:
    assert problems_of(data) == []


def test_a_file_with_free_pages_and_readers_is_sound(store_path: Path) -> None:
    with uniqdb.open(store_path, options=options(100)) as db:
        snapshots = []
        for number in range(12):
            db.add_many([T + number * 1_000 + one for one in range(200)], [f"v{number}-{one}" for one in range(200)])
            db.commit()
            if number % 4 == 0:
                snapshots.append(db.snapshot())
        for snapshot in snapshots:
            snapshot.close()
        db.add_many([T], ["the last"])
    assert problems_of(data_of(store_path)) == []


def test_every_page_is_accounted_for(data: Path) -> None:
    file = PageFile(data)
    meta = file.newest_meta()
    walk = PageWalk(file, meta.last_page, pytest.fail)
    for nodes in walk.leaves(meta.main, "main"):
        for name, tree in sub_trees(nodes):
            for _ in walk.leaves(tree, name):
                pass
    free = free_pages(walk, file, meta)
    assert free
    assert walk.used.count(0) == len(free)
    file.close()


@pytest.mark.parametrize("kind", ["number", "kind", "room", "end"])
def test_a_damaged_page_is_named(data: Path, kind: str) -> None:
    root = PageFile(data).newest_meta().main.root
    if kind == "end":
        with data.open("r+b") as file:
            file.truncate(root * PAGE_BYTES + 100)
    else:
        flip(data, root * PAGE_BYTES + {"number": 1, "kind": 10, "room": 12}[kind], 3)
    problems = problems_of(data)
    assert any(f"page {root} of the main tree" in problem for problem in problems)


def test_a_free_page_that_is_in_use_is_found(data: Path) -> None:
    """LMDB would write over it."""
    file = PageFile(data)
    meta = file.newest_meta()
    (nodes,) = PageWalk(file, meta.last_page, pytest.fail).leaves(meta.free, "free", order=lambda key: key[::-1])
    page = file.page(meta.free.root)
    at = page.index(nodes[-1].data) + 8
    flip(data, meta.free.root * PAGE_BYTES + at, 1)
    assert any("the free list" in problem or "neither used nor free" in problem for problem in problems_of(data))


def test_a_meta_page_that_makes_no_sense(data: Path) -> None:
    flip(data, 17)
    assert problems_of(data) == ["page 0: it is no meta page of LMDB 0.9"]


# ------------------------------------------------------------ when pages are walked
def test_a_closed_store_is_not_walked(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store_path)
    monkeypatch.setattr(page_walk, "page_problems", lambda _directory: pytest.fail("it was walked"))
    for read_only in (True, False, True):
        uniqdb.open(store_path, read_only=read_only).close()


def test_a_store_whose_file_was_touched_is_walked(store_path: Path) -> None:
    fill(store_path)
    file = PageFile(data_of(store_path))
    root = file.newest_meta().main.root
    file.close()
    flip(data_of(store_path), root * PAGE_BYTES + 10, 3)
    for read_only in (True, False):
        with pytest.raises(StoreCorrupt, match=rf"damaged pages in .*page {root} of the main tree"):
            uniqdb.open(store_path, read_only=read_only)
    assert examine(store_path).problems
    flip(data_of(store_path), root * PAGE_BYTES + 10, 3)
    assert examine(store_path).problems == []


def test_where_no_process_can_be_started_it_is_walked_here(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store_path, 600)
    monkeypatch.setattr(page_walk.sys, "executable", "/nowhere/python")
    (store_path / "g1" / "closed").unlink()
    uniqdb.open(store_path).close()
    with data_of(store_path).open("r+b") as file:
        file.truncate(3 * PAGE_BYTES)
    with pytest.raises(StoreCorrupt, match="the file ends within it"):
        uniqdb.open(store_path)
    (store_path / "MANIFEST").unlink()  # nothing to be checked at the end


def test_beside_a_writer_a_reader_walks_nothing(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store_path, 600)
    (store_path / "g1" / "closed").unlink()
    monkeypatch.setattr(page_walk, "_is_free", lambda _path: False)
    monkeypatch.setattr(page_walk, "page_problems", lambda _directory: pytest.fail("it was walked"))
    uniqdb.open(store_path, read_only=True).close()


# ------------------------------------------------------------ one wrong bit
@pytest.mark.parametrize("size_bytes", [1, 40, 5_000, 20_000, 140_000])
def test_any_one_bit_of_a_fragment_is_put_right(size_bytes: int) -> None:
    rng = random.Random(size_bytes)
    value = seal_fragment(Database.DAY, b"key", rng.randbytes(size_bytes))
    places = {0, 9, 13, 17, min(1_000, len(value) - 1), len(value) - 1}
    for at in sorted(at for at in places if at < len(value)):
        wrong = bytearray(value)
        wrong[at] ^= 1 << rng.randrange(8)
        assert not holds(Database.DAY, b"key", bytes(wrong), is_fragment=True)
        assert mended_value(Database.DAY, b"key", bytes(wrong), is_fragment=True) == value


def test_a_wrong_byte_of_a_small_row_is_put_right() -> None:
    value = seal_row(Database.BUCKETS, b"key", b"some bytes that are checked")
    for at in range(8, len(value)):
        wrong = value[:at] + bytes((value[at] ^ 0xFF,)) + value[at + 1 :]
        assert mended_value(Database.BUCKETS, b"key", wrong, is_fragment=False) == value


def test_two_wrong_bytes_are_not_guessed() -> None:
    value = bytearray(seal_row(Database.BUCKETS, b"key", b"some bytes that are checked"))
    value[10] ^= 0x11
    value[20] ^= 0x11
    assert mended_value(Database.BUCKETS, b"key", bytes(value), is_fragment=False) is None


def test_a_wrong_key_is_put_right() -> None:
    value = seal_row(Database.BUCKETS, b"the key", b"content")
    assert mended_key(Database.BUCKETS, b"thd key", value, is_fragment=False) == b"the key"
    assert mended_key(Database.HOUR, b"thd key", value, is_fragment=False) is None
