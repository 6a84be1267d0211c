"""Which uids were found to be seen, and which not, so that asking for them again costs no search."""

from uniqdb.format import Database
from uniqdb.horizons import RETENTION_KEY
from uniqdb.limits import SEEN_UID_CHARACTERS_MAX, SEEN_UIDS_MAX
from uniqdb.store import ReadView


class SeenUids:
    """Whether uids were seen in any kept bucket, as of one commit.

    Nobody who was seen becomes unseen by a commit, unless it removes something: a sweep, or forgetting. Each of these
    writes the row ``meta/retention``, and only they do. So as long as that row stays as it is, in the same data file,
    who was seen is handed on to the next commit; who was not is not.

    Memory: at most 32,768 uids of each kind, of at most 128 characters: about 8 MB, and 20 MB if they are long.
    To be read without a lock by whoever then finds that the view is that of the newest commit.
    """

    __slots__ = ("_proof", "seen", "unseen", "view")

    def __init__(self, view: ReadView, before: "SeenUids | None" = None) -> None:
        self.view = view
        self._proof = view.row(Database.META, RETENTION_KEY)
        is_same = before is not None and before.view.data is view.data and before._proof == self._proof
        self.seen: dict[str, None] = before.seen if before is not None and is_same else {}
        self.unseen: dict[str, None] = {}

    def put(self, uid: str, is_seen: bool) -> None:
        """Remember an answer of this commit. To be called with the handle's lock."""
        if len(uid) <= SEEN_UID_CHARACTERS_MAX:
            kept = self.seen if is_seen else self.unseen
            if len(kept) >= SEEN_UIDS_MAX:
                kept.clear()
            kept[uid] = None
