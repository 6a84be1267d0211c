"""What can still be read of a damaged data file: every row whose checksum holds, and where rows are lost.

Pages are read without LMDB (`uniqdb.lmdb_pages`). A page, a row or a key with a single wrong bit is mended
(`uniqdb.mending`). Where a page cannot be read, the leaves that nothing leads to any more are looked for among the
pages that are neither used nor free; the checksum of a row says to which database it belongs.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from uniqdb.copying import FRAGMENTS
from uniqdb.format import CHECKSUM, Database, place
from uniqdb.lmdb_pages import (
    BIG_DATA,
    METAS,
    Bounds,
    Meta,
    Node,
    PageDamage,
    PageFile,
    Tree,
    Walk,
    big_pages,
    bounded,
    branch_nodes,
    free_pages,
    leaf_nodes,
    meta_of,
    sub_trees,
    tree_of,
)
from uniqdb.mending import flips, holds, mended_key, mended_page, mended_value
from uniqdb.salvaged_view import Big, Salvage

_DEPTH_MAX = 32
_STATE_KEY = b"state"
_MENDS_MAX = 200
"""So many damaged places are tried to mend; each may take 3 s."""
_NAMES = {database.file_name.decode(): database for database in Database}


def salvage(file: PageFile, on_progress: Callable[[str, int], None]) -> Salvage:
    """Read all of a data file. Raises PageDamage if neither of its meta pages makes sense.

    Cost: reads everything once. Memory: keys and small rows.
    """
    return _Reader(file, on_progress).read()


class _Reader:
    def __init__(self, file: PageFile, on_progress: Callable[[str, int], None]) -> None:
        self._file, self._on_progress, self.found = file, on_progress, Salvage()
        self._mends = 0
        self._meta = self._newest()
        # Pages may stand behind the last page that a damaged meta page names.
        self._walk = _MendingWalk(file, max(self._meta.last_page, file.pages), self)
        self._rows = 0

    def read(self) -> Salvage:
        """Everything."""
        trees = self._trees()
        for database in Database:
            tree = trees.get(database)
            if tree is not None and not tree.is_empty:
                self._tree(database, tree)
        if self.found.unreadable:
            self._strays()
        if not self.found.rows[Database.META]:
            self._old_meta()
        return self.found

    # ------------------------------------------------------------ where trees begin
    def _newest(self) -> Meta:
        metas: list[Meta] = []
        damaged: list[int] = []
        for number in range(METAS):
            try:
                metas.append(meta_of(self._file.page(number), number))
            except PageDamage as damage:
                damaged.append(number)
                self.found.unreadable.append(f"page {number}: {damage}")
        for number in damaged:
            known = metas[0].txn_id if metas else None

            def read(page: bytes, number: int = number, known: int | None = known) -> Meta:
                meta = meta_of(page, number)
                if known is not None and abs(meta.txn_id - known) != 1:
                    raise PageDamage("another transaction than the next one or the one before")
                if not (meta.main.is_empty or self._first_leaf(meta.main.root)[0]):
                    raise PageDamage("no tree begins there")
                return meta

            meta = mended_page(self._file.page(number), read)
            if meta is None:
                self.found.lacks_commit = True
            else:
                metas.append(meta)
                self.mended(f"page {number}")
        if not metas:
            raise PageDamage("neither of the two meta pages can be read")
        return max(metas, key=lambda one: one.txn_id)

    def _first_leaf(self, number: int) -> tuple[int, list[Node]]:
        """(levels, entries of the last one) from this page down along first children; (0, []) if there is no tree."""
        for depth in range(1, _DEPTH_MAX):
            page = self._file.page(number)
            try:
                return depth, leaf_nodes(page, number)
            except PageDamage:
                pass
            try:
                number = branch_nodes(page, number)[0][1]
            except PageDamage:
                break
        return 0, []

    def _trees(self) -> dict[Database, Tree]:
        """The named databases; those that cannot be made out are missing."""
        found: dict[Database, Tree] = {}
        unknown: list[tuple[str, Tree]] = []
        main = self._meta.main._replace(depth=self._first_leaf(self._meta.main.root)[0] or 1)
        lost: list[Bounds] = []
        for nodes in self._walk.leaves(main, "the main tree", lost):
            for name, tree in self._entries(nodes):
                if name in _NAMES:
                    found[_NAMES[name]] = tree
                else:
                    unknown.append((name, tree))
        for name, tree in unknown:
            for candidate in flips(name.encode()):
                database = _NAMES.get(bytes(candidate).decode(errors="replace"))
                if database is not None and database not in found:
                    found[database] = tree
                    self.mended(f"the name of {database.name.lower()}")
                    break
        for database in set(Database) - set(found) if lost else ():  # as far as anybody knows it had something
            self.found.lost[database].append((b"", None))
        return {database: self._rooted(database, tree) for database, tree in found.items()}

    def _entries(self, nodes: list[Node]) -> Iterator[tuple[str, Tree]]:
        for node in nodes:
            try:
                yield from sub_trees([node])
            except PageDamage:
                if len(node.data) >= len(Tree._fields) * 4:
                    tree = tree_of(node.data.ljust(48, b"\0"))
                    yield node.key.decode(errors="replace"), tree._replace(flags=0, pad=0)

    def _rooted(self, database: Database, tree: Tree) -> Tree:
        """The tree with the root and depth that it really has."""
        if tree.is_empty:
            return tree
        for root in (tree.root, *(tree.root ^ (1 << bit) for bit in range(64))):
            depth, nodes = self._first_leaf(root)
            if any(self._holds(database, node) for node in nodes):
                if root != tree.root:
                    self.mended(f"the place of {database.name.lower()}")
                return tree._replace(root=root, depth=depth)
        return tree

    # ------------------------------------------------------------ rows
    def _tree(self, database: Database, tree: Tree) -> None:
        lost: list[Bounds] = []
        self._walk.database = database
        for nodes in self._walk.leaves(tree, database.name.lower(), lost):
            for node in nodes:
                self._row(database, node)
        self._walk.database = None
        self.found.lost[database] += lost

    def _row(self, database: Database, node: Node) -> None:
        """Take a row over; mended if need be."""
        rows, is_fragment = self.found.rows[database], database in FRAGMENTS
        self._rows += 1
        self._on_progress("rows", self._rows)
        value = self._value(node)
        if holds(database, node.key, value, is_fragment=is_fragment):
            rows[node.key] = (node.big_page, node.size_bytes) if node.flags & BIG_DATA else value
            return
        where = place(database, node.key)
        if self.may_mend():
            key = mended_key(database, node.key, value, is_fragment=is_fragment)
            if key is not None:
                rows[key] = value
                self.mended(where)
                return
            mended = self._mended_big(database, node) if node.flags & BIG_DATA else None
            mended = mended or mended_value(database, node.key, value, is_fragment=is_fragment)
            if mended is not None:
                rows[node.key] = mended
                self.mended(where)
                return
        self.found.unreadable.append(where)
        self.found.lost[database].append((node.key, node.key + b"\0"))

    def _mended_big(self, database: Database, node: Node) -> bytes | None:
        """A large value whose place or size has a wrong bit."""
        places = [(node.big_page ^ (1 << bit), node.size_bytes) for bit in range(64)]
        places += [(node.big_page, node.size_bytes ^ (1 << bit)) for bit in range(32)]
        for first_page, size_bytes in places:
            if 0 < size_bytes <= self._file.pages * 4_096:
                value = self._file.value(first_page, size_bytes)
                if holds(database, node.key, value, is_fragment=database in FRAGMENTS):
                    return value
        return None

    def _value(self, node: Node) -> bytes:
        if not node.flags & BIG_DATA:
            return node.data
        if node.size_bytes > self._file.pages * 4_096:
            return b""
        return self._file.value(node.big_page, node.size_bytes)

    def _holds(self, database: Database, node: Node) -> bool:
        return holds(database, node.key, self._value(node), is_fragment=database in FRAGMENTS)

    def _strays(self) -> None:
        """Rows of leaves that nothing leads to any more."""
        try:
            reported: list[str] = []
            walk = Walk(self._file, self._meta.last_page, reported.append)
            free = free_pages(walk, self._file, self._meta)
        except PageDamage:
            reported = ["the free list"]
        if reported:  # old versions of rows stand on free pages, and cannot be told from what was in use
            return
        known = self._walk.used
        taken = {*free, *(number for number in range(len(walk.used)) if walk.used[number])}
        for number in range(METAS, min(self._file.pages, len(known))):
            if known[number] or number in taken:
                continue
            try:
                nodes = leaf_nodes(self._file.page(number), number)
            except PageDamage:
                continue
            for node in nodes:
                self._stray(node)

    def _stray(self, node: Node) -> None:
        for database in Database:
            if self._holds(database, node):
                self.found.rows[database].setdefault(node.key, self._value(node))

    def _old_meta(self) -> None:
        """The newest page of ``meta`` that is left: all its rows fit on one, and each commit writes it anew."""
        best: dict[bytes, bytes | Big] = {}
        best_commit = -1
        for number in range(METAS, self._file.pages):
            try:
                nodes = leaf_nodes(self._file.page(number), number)
            except PageDamage:
                continue
            rows: dict[bytes, bytes | Big] = {
                node.key: self._value(node) for node in nodes if self._holds(Database.META, node)
            }
            commit = _commit_of(rows.get(_STATE_KEY))
            if commit > best_commit:
                best, best_commit = rows, commit
        self.found.rows[Database.META] = best
        self.found.has_old_meta = bool(best)

    # ------------------------------------------------------------ mending
    def may_mend(self) -> bool:
        """Whether it is not too much yet."""
        self._mends += 1
        return self._mends <= _MENDS_MAX

    def mended(self, where: str) -> None:
        """Say what was mended."""
        self.found.mended.append(where)

    def mended_leaf(self, number: int, database: Database | None) -> list[Node] | None:
        """The entries of a damaged leaf, if one bit makes sense of all of them."""

        def read(page: bytes) -> list[Node]:
            nodes = leaf_nodes(page, number)
            if database is None:
                for _ in sub_trees(nodes):
                    pass
            elif not all(self._holds(database, node) for node in nodes):
                raise PageDamage("a row does not hold")
            return nodes

        return mended_page(self._file.page(number), read) if self.may_mend() else None

    def mended_branch(self, number: int) -> list[tuple[bytes, int]] | None:
        """The children of a damaged branch, if one bit makes sense of all of them."""

        def read(page: bytes) -> list[tuple[bytes, int]]:
            children = branch_nodes(page, number)
            pages = {child for _, child in children}
            if len(pages) < len(children) or not all(self.said_number(child) == child for child in pages):
                raise PageDamage("a child is another page")
            return children

        return mended_page(self._file.page(number), read) if self.may_mend() else None

    def fits(self, number: int, bounds: Bounds) -> bool:
        """Whether a page of a tree is there, whose first key lies between these."""
        nodes = self._first_leaf(number)[1]
        return bool(nodes) and nodes[0].key >= bounds[0] and (bounds[1] is None or nodes[0].key < bounds[1])

    def said_number(self, number: int) -> int:
        """What a page says is its number."""
        return int.from_bytes(self._file.page(number)[:8], "little")


class _MendingWalk(Walk):
    """A walk that mends pages on its way."""

    def __init__(self, file: PageFile, last_page: int, reader: _Reader) -> None:
        super().__init__(file, last_page, reader.found.unreadable.append)
        self._reader = reader
        self.database: Database | None = None

    def differing(self, tree: Tree, counts: tuple[int, ...], name: str) -> list[Bounds]:
        """One wrong bit in one of the numbers is no loss."""
        wrong = [said ^ found for said, found in zip(tree[3:7], counts, strict=True) if said != found]
        if len(wrong) == 1 and wrong[0].bit_count() == 1:
            self._reader.mended(f"the numbers of {name}")
            return []
        return super().differing(tree, counts, name)

    def big(self, node: Node, name: str, number: int) -> int:  # noqa: ARG002 - as in the walk
        """Large values have checksums of their own."""
        count = big_pages(node.size_bytes)
        with suppress(PageDamage):
            self.take(node.big_page, count)
        return count

    def children(self, number: int, name: str, bounds: Bounds) -> list[tuple[int, Bounds]]:
        """The children of a page, mended if need be."""
        try:
            found = super().children(number, name, bounds)
        except PageDamage:
            mended = self._reader.mended_branch(number)
            if mended is None:
                raise
            self._reader.mended(f"page {number} of {name}")
            found = bounded(mended, bounds)
        return [(self._child(page, within, name), within) for page, within in found]

    def _child(self, number: int, bounds: Bounds, name: str) -> int:
        """The number of a child, mended if it leads elsewhere: a page with keys between these is the right one."""
        said = self._reader.said_number(number)
        if (said ^ number).bit_count() == 1 or self._reader.fits(number, bounds):
            return number  # or its own number is what is damaged
        for bit in range(48):
            other = number ^ (1 << bit)
            if self.is_free(other) and self._reader.fits(other, bounds):
                self._reader.mended(f"the way to page {other} of {name}")
                return other
        return number

    def leaf(self, number: int, name: str) -> list[Node]:
        """The entries of a page, mended if need be."""
        try:
            return super().leaf(number, name)
        except PageDamage:
            mended = self._reader.mended_leaf(number, self.database)
            if mended is None:
                raise
            self._reader.mended(f"page {number} of {name}")
            return mended


def _commit_of(value: bytes | Big | None) -> int:
    """The number of the commit that wrote this row of ``meta/state``, or -1."""
    if not isinstance(value, bytes):
        return -1
    return int(msgspec.msgpack.decode(value[CHECKSUM.size :], type=dict[str, Any]).get("commit_number", -1))
