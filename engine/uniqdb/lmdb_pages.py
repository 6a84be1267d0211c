"""LMDB's data file, read page by page without LMDB: is every page where it should be, and what stands on it?

LMDB believes its pages: a wrong number on one of them ends the process that follows it. Here nothing is believed and
nothing is mapped into memory, so whatever stands in the file, the worst is a report. The layout is that of LMDB 0.9 for
64-bit little-endian machines (``mdb.c``: MDB_page, MDB_node, MDB_db, MDB_meta).

::

    page     number u64, pad u16, flags u16, lower u16, upper u16 (of a large value: pages u32); places of nodes, u16
    node     low u16, high u16, flags u16, key bytes u16, key, data; in a branch the first three are a page's number
    tree     pad u32, flags u16, depth u16, branch, leaf and overflowing pages, entries, root: u64 each
    meta     magic u32, version u32, address u64, map bytes u64, tree of free pages, main tree, last page, transaction

Run as ``python -m uniqdb.lmdb_pages DATA_FILE`` it prints what is wrong, as a JSON array of texts.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct, unpack_from
from typing import NamedTuple

PAGE_BYTES = 4_096
HEAD_BYTES = 16
BRANCH, LEAF, OVERFLOW, META = 1, 2, 4, 8
BIG_DATA, SUB_TREE = 1, 2
METAS = 2
"""The first pages; commits write them in turn."""
_HEAD, _NODE = Struct("<QHHHH"), Struct("<HHHH")
_TREE, _META = Struct("<IHHQQQQQ"), Struct("<IIQQ")
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_META_BYTES = HEAD_BYTES + _META.size + 2 * _TREE.size + 16
_NO_PAGE = 2**64 - 1
_DEPTH_MAX = 32
_FREE_FLAGS = 0x08
"""The tree of free pages has integers as keys; its other flags are those of whoever created the file."""
_PROBLEMS_MAX = 1_000

Bounds = tuple[bytes, bytes | None]
"""Keys from the first to before the second; None: to the end."""


class PageDamage(Exception):
    """Internal: a page does not hold what it should."""


class Tree(NamedTuple):
    """Where a tree begins and how large it is."""

    pad: int
    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int

    @property
    def is_empty(self) -> bool:
        """Whether it has no page."""
        return self.root == _NO_PAGE


class Meta(NamedTuple):
    """What one of the first two pages says: a whole commit hangs on it."""

    page: int
    txn_id: int
    last_page: int
    free: Tree
    main: Tree


class Node(NamedTuple):
    """An entry of a leaf. ``data`` of a large value is the number of its first page; ``size_bytes`` is the value's."""

    key: bytes
    flags: int
    data: bytes
    size_bytes: int

    @property
    def big_page(self) -> int:
        """Where a large value begins."""
        return int.from_bytes(self.data, "little")


def tree_of(data: bytes, at: int = 0) -> Tree:
    """The description of a tree."""
    return Tree(*_TREE.unpack_from(data, at))


def meta_of(page: bytes, number: int) -> Meta:
    """The content of a meta page. Raises PageDamage."""
    if len(page) < _META_BYTES:
        raise PageDamage("the file ends within it")
    page_number, _, flags, _, _ = _HEAD.unpack_from(page)
    magic, version, _, _ = _META.unpack_from(page, HEAD_BYTES)
    if (page_number, flags, magic, version) != (number, META, _MAGIC, _VERSION):
        raise PageDamage("it is no meta page of LMDB 0.9")
    at = HEAD_BYTES + _META.size
    free, main = tree_of(page, at), tree_of(page, at + _TREE.size)
    last_page, txn_id = unpack_from("<QQ", page, at + 2 * _TREE.size)
    if free.pad != PAGE_BYTES:
        raise PageDamage(f"it speaks of pages of {free.pad} bytes")
    if free.flags & 0xFF & ~_FREE_FLAGS or not free.flags & _FREE_FLAGS or main.flags or main.pad:
        raise PageDamage("its trees are of another kind")
    if txn_id and txn_id % METAS != number:
        raise PageDamage("it has the number of another page's transaction")
    return Meta(number, txn_id, last_page, free, main)


def _places(page: bytes, number: int, flags: int) -> tuple[int, ...]:
    """Where the nodes of a page stand. Raises PageDamage."""
    if len(page) < PAGE_BYTES:
        raise PageDamage("the file ends within it")
    page_number, pad, page_flags, lower, upper = _HEAD.unpack_from(page)
    if page_number != number:
        raise PageDamage(f"it says that it is page {page_number}")
    if page_flags != flags or pad:
        raise PageDamage(f"it is of another kind ({page_flags})")
    if not HEAD_BYTES < lower <= upper <= PAGE_BYTES or lower % 2:
        raise PageDamage("its number of nodes makes no sense")
    places: tuple[int, ...] = unpack_from(f"<{(lower - HEAD_BYTES) // 2}H", page, HEAD_BYTES)
    if min(places) < upper or max(places) > PAGE_BYTES - _NODE.size or any(at % 2 for at in places):
        raise PageDamage("a node stands outside of its room")
    return places


def leaf_nodes(page: bytes, number: int) -> list[Node]:
    """The entries of a leaf. Raises PageDamage unless they fill exactly the room that the page says."""
    places = _places(page, number, LEAF)
    nodes: list[Node] = []
    filled = 0
    for at in places:
        low, high, flags, key_bytes = _NODE.unpack_from(page, at)
        start, size_bytes = at + _NODE.size + key_bytes, low | high << 16
        here = 8 if flags & BIG_DATA else size_bytes
        end = start + here
        if end > PAGE_BYTES or flags & ~(BIG_DATA | SUB_TREE) or not key_bytes:
            raise PageDamage("a node makes no sense")
        filled += (end - at + 1) & ~1
        nodes.append(Node(page[at + _NODE.size : start], flags, page[start:end], size_bytes))
    _assert_filled(page, filled)
    return nodes


def branch_nodes(page: bytes, number: int) -> list[tuple[bytes, int]]:
    """(first key, page) of the children; the first one's key says nothing. Raises PageDamage."""
    places = _places(page, number, BRANCH)
    nodes: list[tuple[bytes, int]] = []
    filled = 0
    for at in places:
        low, high, top, key_bytes = _NODE.unpack_from(page, at)
        end = at + _NODE.size + key_bytes
        if end > PAGE_BYTES:
            raise PageDamage("a node makes no sense")
        filled += (end - at + 1) & ~1
        nodes.append((page[at + _NODE.size : end], low | high << 16 | top << 32))
    _assert_filled(page, filled)
    if len(nodes) < 2:
        raise PageDamage("it has a single child")
    return nodes


def _assert_filled(page: bytes, filled: int) -> None:
    if filled != PAGE_BYTES - _HEAD.unpack_from(page)[4]:
        raise PageDamage("its nodes do not fill their room")


def big_pages(size_bytes: int) -> int:
    """How many pages a large value takes."""
    return (HEAD_BYTES + size_bytes + PAGE_BYTES - 1) // PAGE_BYTES


def assert_big(page: bytes, number: int, size_bytes: int) -> None:
    """Raise PageDamage unless a large value begins on this page."""
    page_number, pad, flags, low, high = _HEAD.unpack_from(page.ljust(HEAD_BYTES, b"\0"))
    if (page_number, pad, flags, low | high << 16) != (number, 0, OVERFLOW, big_pages(size_bytes)):
        raise PageDamage("no value of this size begins on it")


class PageFile:
    """A data file, opened for reading. Never in a process that has the store open: closing it would drop LMDB's locks.

    Pages are read one by one and not kept.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.pages = os.fstat(self._descriptor).st_size // PAGE_BYTES

    def page(self, number: int) -> bytes:
        """The bytes of a page; fewer where the file ends."""
        if not 0 <= number < self.pages + 1:
            return b""
        return os.pread(self._descriptor, PAGE_BYTES, number * PAGE_BYTES)

    def value(self, first_page: int, size_bytes: int) -> bytes:
        """The bytes of a large value; fewer where the file ends."""
        if not 0 <= first_page <= self.pages:
            return b""
        return os.pread(self._descriptor, size_bytes, first_page * PAGE_BYTES + HEAD_BYTES)

    def newest_meta(self) -> Meta:
        """The meta page that LMDB goes by. Raises PageDamage if one of the two is damaged, as LMDB does."""
        metas = []
        for number in range(METAS):
            try:
                metas.append(meta_of(self.page(number), number))
            except PageDamage as damage:
                raise PageDamage(f"page {number}: {damage}") from None
        return max(reversed(metas), key=lambda one: one.txn_id)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _same(key: bytes) -> bytes:
    return key


def _integer(key: bytes) -> bytes:
    return key[::-1]


class Walk:
    """Every page that a commit needs, once. What is wrong is reported, and the walk goes on beside it."""

    def __init__(self, file: PageFile, last_page: int, report: Callable[[str], None]) -> None:
        self._file, self._report = file, report
        self.used = bytearray(min(last_page, file.pages * 2 + METAS) + 1)
        """One byte for each page that may be in use: 1 if it was met."""
        self.used[:METAS] = b"\1" * METAS

    def take(self, first: int, count: int = 1) -> None:
        """Mark pages as used. Raises PageDamage if they are already, or lie behind the last one."""
        if first < METAS or first + count > len(self.used):
            raise PageDamage(f"page {first} is behind the last page")
        if any(self.used[first : first + count]):
            raise PageDamage(f"page {first} is used twice")
        self.used[first : first + count] = b"\1" * count

    def is_free(self, number: int) -> bool:
        """Whether the page was not met yet."""
        return METAS <= number < len(self.used) and not self.used[number]

    def leaves(
        self, tree: Tree, name: str, lost: list[Bounds] | None = None, order: Callable[[bytes], bytes] = _same
    ) -> Iterator[list[Node]]:
        """The entries of each leaf, in the order of their keys. The numbers of the tree are checked at the end.

        Into ``lost`` goes between which keys there are entries that could not be read.
        """
        lost = [] if lost is None else lost
        if tree.is_empty:
            if tree[2:7] != (0, 0, 0, 0, 0):
                self._report(f"{name}: the tree is empty, and its numbers are not")
            return
        counts = [0, 0, 0, 0]  # branch, leaf and overflowing pages, entries
        before: bytes | None = None
        stack: list[tuple[int, int, Bounds]] = [(tree.root, min(tree.depth, _DEPTH_MAX), (b"", None))]
        while stack:
            number, depth, bounds = stack.pop()
            try:
                self.take(number)
                if depth > 1:
                    children = self.children(number, name, bounds)
                    counts[0] += 1
                    stack += [(page, depth - 1, within) for page, within in reversed(children)]
                    continue
                nodes = self.leaf(number, name)
            except PageDamage as damage:
                self._report(f"page {number} of {name}: {damage}")
                lost.append(bounds)
                continue
            counts[1] += 1
            counts[3] += len(nodes)
            for node in nodes:
                key = order(node.key)
                is_beyond = bounds[1] is not None and key >= order(bounds[1])
                if (before is not None and key <= before) or key < order(bounds[0]) or is_beyond:
                    self._report(f"page {number} of {name}: its keys are out of order")
                    lost.append(bounds)
                    break
                before = key
            counts[2] += sum(self.big(node, name, number) for node in nodes if node.flags & BIG_DATA)
            yield nodes
        if tree[3:7] != tuple(counts) and not lost:
            lost += self.differing(tree, tuple(counts), name)

    def differing(self, tree: Tree, counts: tuple[int, ...], name: str) -> list[Bounds]:
        """What may be missing of a tree whose numbers are not those of its pages. ``counts``: what was found."""
        self._report(f"{name}: the tree says {tree[3:7]}, its pages {counts}")
        return [(b"", None)]

    def children(self, number: int, name: str, bounds: Bounds) -> list[tuple[int, Bounds]]:  # noqa: ARG002 - for others
        """The children of a branch, and between which keys theirs are. Raises PageDamage."""
        return bounded(branch_nodes(self._file.page(number), number), bounds)

    def leaf(self, number: int, name: str) -> list[Node]:  # noqa: ARG002 - for those who mend
        """The entries of a page. Raises PageDamage."""
        return leaf_nodes(self._file.page(number), number)

    def big(self, node: Node, name: str, number: int) -> int:
        """How many pages a large value takes."""
        count = big_pages(node.size_bytes)
        try:
            if node.big_page + count > self._file.pages + 1:
                raise PageDamage("the file ends within it")
            self.take(node.big_page, count)
            assert_big(self._file.page(node.big_page)[:HEAD_BYTES], node.big_page, node.size_bytes)
        except PageDamage as damage:
            self._report(f"page {node.big_page} of {name}, a large value of page {number}: {damage}")
        return count


def bounded(children: list[tuple[bytes, int]], bounds: Bounds) -> list[tuple[int, Bounds]]:
    """The children of a branch, and between which keys theirs are, given those of the branch."""
    firsts = [bounds[0], *(key for key, _ in children[1:])]
    ends = [*firsts[1:], bounds[1]]
    return [(page, (first, end)) for (_, page), first, end in zip(children, firsts, ends, strict=True)]


def free_pages(walk: Walk, file: PageFile, meta: Meta) -> list[int]:
    """The numbers of the free list, whose own pages are met on the way. Raises PageDamage if it is damaged."""
    found: list[int] = []
    for nodes in walk.leaves(meta.free, "the free list", order=_integer):
        for node in nodes:
            data = file.value(node.big_page, node.size_bytes) if node.flags & BIG_DATA else node.data
            count = unpack_from("<Q", data.ljust(8, b"\xff"))[0]
            if len(node.key) != 8 or 8 * count + 8 > len(data):
                raise PageDamage("an entry of the free list makes no sense")
            found += unpack_from(f"<{count}Q", data, 8)
    return found


def sub_trees(nodes: list[Node]) -> Iterator[tuple[str, Tree]]:
    """The named databases in a leaf of the main tree. Raises PageDamage."""
    for node in nodes:
        if node.flags != SUB_TREE or node.size_bytes != _TREE.size:
            raise PageDamage("an entry of the main tree is no database")
        tree = tree_of(node.data)
        if tree.flags or tree.pad:
            raise PageDamage("a database is of another kind")
        yield node.key.decode(errors="replace"), tree


def problems_of(path: Path) -> list[str]:
    """What is wrong with the pages of a data file; at most 1,000. Cost: reads all pages but those of large values."""
    problems: list[str] = []

    def report(text: str) -> None:
        if len(problems) < _PROBLEMS_MAX:
            problems.append(text)

    file = PageFile(path)
    try:
        meta = file.newest_meta()
        walk = Walk(file, meta.last_page, report)
        for nodes in walk.leaves(meta.main, "the main tree"):
            for name, tree in sub_trees(nodes):
                for _ in walk.leaves(tree, name):
                    pass
        for number in free_pages(walk, file, meta):
            try:
                walk.take(number)
            except PageDamage as damage:
                report(f"the free list: {damage}")
        unaccounted = walk.used.count(0) + meta.last_page + 1 - len(walk.used)
        if unaccounted:
            report(f"{unaccounted} pages are neither used nor free")
    except PageDamage as damage:
        report(str(damage))
    finally:
        file.close()
    return problems


if __name__ == "__main__":
    sys.stdout.write(json.dumps(problems_of(Path(sys.argv[1]))))
