"""The disk of a running service is full, again and again: it says so, loses nothing, and goes on by itself."""

import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest

from kafka.cluster import Cluster
from kafka.scraping import Scraped, scraped
from kafka.serving import Served, line
from model import Model

T = 1_468_244_340
BATCH = 1_000
"""Visits, each of a new visitor with a long name, so that they soon need pages that the file does not have."""
LIMITED_BYTES = 64 * 1024
"""Fewer pages than any commit writes."""
SMALL_DISK_MIB = 512
"""Room for fifty cycles, each of which first uses up the pages that are free within the file."""
LIMIT_S = 60.0


class Disk(Protocol):
    """The place of a store, which can be made full while somebody else writes to it."""

    folder: Path

    def fill(self, service: Scraped) -> None: ...

    def make_room(self, service: Scraped) -> None: ...


class LimitedFiles:
    """No file of the process may be written behind its first pages: set from outside, while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, service: Scraped) -> None:
        self._limit(service, LIMITED_BYTES)

    def make_room(self, service: Scraped) -> None:
        self._limit(service, resource.RLIM_INFINITY)

    def _limit(self, service: Scraped, size_bytes: int) -> None:
        if service.child.poll() is None:
            resource.prlimit(service.child.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


class SmallDisk:
    """A file system of its own, where another file takes all that is left."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._filler = folder, folder / "filler"

    def fill(self, service: Scraped) -> None:  # noqa: ARG002 - as for the other kind of disk
        with self._filler.open("wb", buffering=0) as file:
            for size_bytes in (1 << 20, 4_096):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size_bytes))

    def make_room(self, service: Scraped) -> None:  # noqa: ARG002
        self._filler.unlink(missing_ok=True)


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "limit":
        if not hasattr(resource, "prlimit"):
            pytest.skip("limits of another process can be set on Linux only")
        yield LimitedFiles(folder)
        return
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m", "tmpfs", folder]
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"no mount: {error}")
    if done.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", folder], check=True)


class Input:
    """What is in the topic, and the oracle of it."""

    def __init__(self, served: Served) -> None:
        self.model, self.visits = Model(), 0
        self._served = served

    def write(self, visits: int = BATCH) -> None:
        numbers = range(self.visits, self.visits + visits)
        times, uids = [T + number // 20 for number in numbers], [f"visitor {number:0500}" for number in numbers]
        self.model.add(times, uids)
        self.visits += visits
        self._served.cluster.write(self._served.topic, map(line, times, uids))


def fill_up(service: Scraped, disk: Disk, source: Input) -> None:
    """Until the service has met the end of its disk, and says so everywhere; it does not end."""
    disk.fill(service)
    sent = 0
    while service.values()["uniqdb_waits_for_room"][()] == 0:
        assert sent < 500 * BATCH, "it is never full"
        more = BATCH + sent // 2
        source.write(more)
        sent += more
        time.sleep(0.5)
    assert service.get("/healthz") == (200, "waits for room\n")
    assert service.get("/readyz") == (503, "the store cannot be written: there is no room\n")
    source.write()
    found = service.values()
    assert found["uniqdb_store_visits"][()] < source.visits
    assert found["uniqdb_loop_age_seconds"][()] < 10, "its figures are not those of long ago"
    assert service.child.poll() is None


@pytest.mark.parametrize("cycles", [2, pytest.param(50, marks=pytest.mark.soak)])
@pytest.mark.parametrize("disk", ["limit", "tmpfs"], indirect=True)
def test_a_full_disk_pauses_the_service(cluster: Cluster, topic: str, disk: Disk, cycles: int) -> None:
    served = Served(cluster, topic, disk.folder)
    cluster.create(topic)
    source = Input(served)
    source.write()
    began_at_s, slowest_s = time.monotonic(), 0.0
    with scraped(served) as service:
        service.until("uniqdb_store_visits", lambda seen: seen == source.visits)
        for _ in range(cycles):
            fill_up(service, disk, source)
            room_at_s = time.monotonic()
            disk.make_room(service)
            service.until("uniqdb_store_visits", lambda seen: seen == source.visits)
            service.until("uniqdb_waits_for_room", lambda seen: seen == 0)
            slowest_s = max(slowest_s, time.monotonic() - room_at_s)
            service.until_probe("/readyz", (200, "ready\n"))
        # One that is stopped while its disk is full says that, too; what it could not write is read again.
        fill_up(service, disk, source)
        service.child.terminate()
        assert service.child.wait(LIMIT_S) == 73
    disk.make_room(service)
    passed_s = time.monotonic() - began_at_s
    said = "".join(service.said)
    print(f"{cycles} cycles, {source.visits:,} visits, {passed_s:.0f} s, {slowest_s:.1f} s to go on", flush=True)
    assert said.count("reading pauses and goes on when there is room") == cycles + 1, said
    assert said.count("There is room again after") == cycles, said
    assert "Traceback" not in said
    served.assert_true(source.model)
