"""Print the standing of a store, as JSON: a process of its own, which a damaged store may end.

python -m uniqdb.standing STORE
"""

import sys
from pathlib import Path

import msgspec

from uniqdb.again import Standing
from uniqdb.errors import UniqdbError
from uniqdb.meta import read_state, read_store_row
from uniqdb.store import ReadView, Store
from uniqdb.uid_dictionary import UidDictionary


def read_standing(view: ReadView, store_uuid: str) -> Standing:
    """The standing as of a view. Raises StoreCorrupt."""
    row = read_store_row(view, store_uuid)
    layout = UidDictionary(row.hash_seed).row(view).layout
    return Standing(row.epoch, read_state(view).commit_number, layout)


def main() -> None:
    """Print it; nothing at all if the store cannot be read."""
    try:
        store = Store(Path(sys.argv[1]), read_only=True)
    except UniqdbError:
        return
    try:
        sys.stdout.write(msgspec.json.encode(read_standing(store.view(), store.manifest.store_uuid)).decode())
    except UniqdbError:
        return
    finally:
        store.close()


if __name__ == "__main__":
    main()
