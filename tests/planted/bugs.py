"""Twelve bugs that would make counts wrong in silence, and the tests that must notice each.

python tests/planted/bugs.py [--only NAME] [--keep]

Each is put into a copy of the source by replacing text that stands there exactly once; then the named tests run on the
copy, and at least one of them must fail. A table of what caught what is printed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("engine", "cli", "tests", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug: in a module of the engine texts are replaced by others. ``caught_by``: tests, by their ids."""

    name: str
    module: str
    changes: tuple[tuple[str, str], ...]
    caught_by: tuple[str, ...]


SIMULATION = "tests/simulation/test_simulation.py::test_a_seed_ends_in_the_truth"
BUGS = (
    Planted(
        "skip the offset fence",
        "stream/offset_fence.py",
        (
            (
                "        expected = self.next_offsets[partition]\n"
                "        start = int(np.searchsorted(offsets, expected))\n",
                "        start = 0\n"
                "        expected = int(offsets[0]) if len(offsets) else self.next_offsets[partition]\n",
            ),
        ),
        ("tests/unit/test_offset_fence.py::test_what_was_handed_out_before_is_trimmed", SIMULATION),
    ),
    Planted(
        "change the cache before the commit",
        "writer.py",
        (
            (
                "            write_row(plan.changes, Database.META, STATE_KEY, state)\n            try:\n"
                "                self._store.commit(plan.changes, based_on=plan.view.txn_id)\n"
                "            except StoreMoved:\n                self.forget_cached()\n                continue\n"
                "            except BaseException:\n                self._upkeep",
                "            write_row(plan.changes, Database.META, STATE_KEY, state)\n"
                "            if resolved is not None:\n                self._dictionary.remember(resolved)\n"
                "            self._members.remember(staged)\n            try:\n"
                "                self._store.commit(plan.changes, based_on=plan.view.txn_id)\n"
                "            except StoreMoved:\n                self.forget_cached()\n                continue\n"
                "            except BaseException:\n                self._upkeep",
            ),
        ),
        ("tests/property/test_random_operations.py::test_any_sequence_equals_the_sets",),
    ),
    Planted(
        "delete the outbox row whatever the revision",
        "outbox.py",
        (
            ("        if plan.changes.writes(Database.OUTBOX, key):\n            continue\n", ""),
            (
                "        if payload is not None and _number_of(key, payload) == number:\n",
                "        if payload is not None:\n",
            ),
        ),
        ("tests/format/test_format_doc.py::test_an_independent_reader_finds_what_waits", SIMULATION),
    ),
    Planted(
        "drop a checksum check",
        "format.py",
        (
            (
                "    if len(raw) < 8 or CHECKSUM.unpack_from(raw)[0] != "
                "xxh3_64_intdigest(payload, key_seed(database, key)):\n",
                "    if len(raw) < 8:\n",
            ),
        ),
        ("tests/unit/test_format.py", "tests/crash/test_damage.py::test_a_flipped_bit_makes_no_wrong_answer"),
    ),
    Planted(
        "ignore a missing fragment",
        "bucket_members.py",
        (
            (
                '        raise corrupt(database, key, "a fragment that its directory lists is missing")\n',
                "        return BitMap()\n",
            ),
        ),
        ("tests/unit/test_missing_rows.py::test_a_lost_row_is_never_taken_for_nothing",),
    ),
    Planted(
        "off by one in the cover",
        "window.py",
        (
            (
                "        part = range(max(start_s, hour_s), min(end_s, next_s), 60)\n",
                "        part = range(max(start_s, hour_s), min(end_s, next_s) - 60, 60)\n",
            ),
        ),
        ("tests/property/test_cover_property.py", "tests/unit/test_window.py"),
    ),
    Planted(
        "wrong DST fold",
        "calendar_zone.py",
        (
            (
                "datetime.fromordinal(ordinal).replace(tzinfo=self.zone_info)",
                "datetime.fromordinal(ordinal).replace(tzinfo=self.zone_info, fold=1)",
            ),
        ),
        ("tests/property/test_calendar_property.py", "tests/unit/test_calendar_zone.py"),
    ),
    Planted(
        "drop a uid that was just seen",
        "writer.py",
        (
            (
                "            marks.live |= bitmap_of(np.unique(resolved.ordinals).astype(np.uint32))\n",
                "            marks.live |= bitmap_of(np.empty(0, np.uint32))\n",
            ),
        ),
        ("tests/unit/test_sweep.py::test_a_uid_that_comes_between_mark_and_drop_stays",),
    ),
    Planted(
        "verdict by batch",
        "plausibility.py",
        (
            (
                "            self._number += 1\n            recent.push(time_s)\n            self._move_clock(index)\n",
                "            if index == positions[0]:\n                for at, one in enumerate(times_s.tolist()):\n"
                "                    self._number += 1\n                    recent.push(one)\n"
                "                    self._move_clock(int(positions[at]))\n",
            ),
        ),
        ("tests/property/test_event_time_simulation.py::test_batches_and_restarts_change_nothing", SIMULATION),
    ),
    Planted(
        "a merge that loses a fragment",
        "bucket_members.py",
        (
            (
                "BitMap.union(*[_of_edit(database, edit, entry) for entry in chosen])",
                "BitMap.union(*[_of_edit(database, edit, entry) for entry in chosen[1:]])",
            ),
            (
                "                if len(chosen) == len(edit.fragments):\n                    merged = members | new\n"
                "                else:\n                    merged = ",
                "                merged = ",
            ),
        ),
        ("tests/property/test_random_operations.py", SIMULATION),
    ),
    Planted(
        "publish before the commit",
        "stream/service.py",
        (
            (
                "        before, self._state = self._state, self._commits.write(commit)\n",
                "        self._publish_early(commit)\n"
                "        before, self._state = self._state, self._commits.write(commit)\n",
            ),
            (
                "    def _is_empty(self, commit: Commit) -> bool:\n",
                "    def _publish_early(self, commit: Commit) -> None:\n"
                "        from uniqdb.stream.publisher import OutgoingRecord\n\n"
                "        with self._engine.snapshot() as snapshot:\n"
                "            zone = self._engine.zone.name\n"
                "            found = []\n"
                "            for start_s in sorted({int(at) // 60 * 60 for at in commit.event_times_s}):\n"
                "                for one in snapshot.series('minute', start_s, start_s + 60, fill=True):\n"
                "                    visits = sum(int(at) // 60 * 60 == start_s for at in commit.event_times_s)\n"
                "                    one = msgspec.structs.replace(one, count=one.count + visits, "
                "visits=one.visits + visits, revision=one.revision + 1)\n"
                "                    key = f'minute|{zone}|{start_s}'.encode()\n"
                "                    found.append(OutgoingRecord('visits_per_minute', key, one.to_json()))\n"
                "        if self._publisher.has_begun() and not self._publishing.acknowledged:\n"
                "            try:\n                self._publisher.publish(found)\n"
                "            except KafkaUnreachable:\n                pass\n\n"
                "    def _is_empty(self, commit: Commit) -> bool:\n",
            ),
        ),
        (SIMULATION,),
    ),
    Planted(
        "overlapping fragments",
        "bucket_members.py",
        (("        new = level.bitmap(position) - members\n", "        new = level.bitmap(position)\n"),),
        ("tests/property/test_random_operations.py", SIMULATION),
    ),
)


def plant(bug: Planted, folder: Path, *, only_module: bool = False) -> None:
    """A copy of the source, or of the module alone, with the bug. Raises ValueError if it does not apply."""
    if only_module:
        (folder / "engine" / "uniqdb" / bug.module).parent.mkdir(parents=True)
        shutil.copy(ROOT / "engine" / "uniqdb" / bug.module, folder / "engine" / "uniqdb" / bug.module)
    for name in () if only_module else COPIED:
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
        else:
            shutil.copy(place, folder / name)
    module = folder / "engine" / "uniqdb" / bug.module
    text = module.read_text("utf-8")
    for old, new in bug.changes:
        if text.count(old) != 1:
            raise ValueError(f"{bug.name}: this stands {text.count(old)} times in {bug.module}: {old!r}")
        text = text.replace(old, new)
    compile(text, str(module), "exec")
    module.write_text(text, "utf-8")


def failed(folder: Path, test: str) -> str:
    """The id of the first test that failed, or empty. Raises RuntimeError if none was run."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--benchmark-disable", "-p", "no:cacheprovider", test]
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "ci", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{test}: {done.stdout[-2_000:]}{done.stderr[-2_000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return lines[0].split()[1] if lines else ""


def caught_by(bug: Planted, folder: Path) -> list[str]:
    """Which of the named tests fail on a copy with the bug."""
    plant(bug, folder)
    return [name for name in (failed(folder, test) for test in bug.caught_by) if name]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    missed = 0
    for bug in BUGS:
        if chosen.only not in bug.name:
            continue
        begun_s = time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            found = caught_by(bug, Path(name))
        missed += len(found) < len(bug.caught_by)
        for test in bug.caught_by:
            hit = next((one for one in found if one.startswith(test)), "NOT CAUGHT")
            print(f"| {bug.name} | `{test}` | `{hit}` |", flush=True)
        print(f"  {time.monotonic() - begun_s:.0f} s", file=sys.stderr, flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
