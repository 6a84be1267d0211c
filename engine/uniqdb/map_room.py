"""How large the map, and so the data file, may become."""

from uniqdb.errors import CannotWrite, CommitFailed
from uniqdb.limits import MAP_GROWTH_BYTES_MAX, SWEEP_RESERVE_BYTES_MIN, SWEEP_RESERVE_FRACTION


def grown_map_bytes(map_bytes: int, max_bytes: int, *, is_upkeep: bool) -> int:
    """What a map of so many bytes grows to; the same if it may not. ``max_bytes`` 0: there is no bound.

    It doubles, up to a bound on each step. Upkeep, which frees pages but first needs some, may go beyond
    ``max_bytes`` by a sixteenth, and at least by 8 MiB.
    """
    grown_bytes = map_bytes + min(map_bytes, MAP_GROWTH_BYTES_MAX)
    if not max_bytes:
        return grown_bytes
    reserve_bytes = max(max_bytes // SWEEP_RESERVE_FRACTION, SWEEP_RESERVE_BYTES_MIN) if is_upkeep else 0
    return max(map_bytes, min(grown_bytes, max_bytes + reserve_bytes))


def no_room(max_bytes: int) -> CommitFailed:
    """The error of a commit that would need a larger map."""
    return CommitFailed(
        f"the store would become larger than max_store_bytes = {max_bytes:,} allows; the commit was undone",
        hint="raise max_store_bytes, or keep less and run `uniqdb sweep`",
    )


PANICKED = "a failed write left LMDB's environment unusable"


def panicked() -> CannotWrite:
    """The error of whatever is asked of a handle after that."""
    return CannotWrite(PANICKED, hint="close the handle, and open the store again: what was committed is in it")
