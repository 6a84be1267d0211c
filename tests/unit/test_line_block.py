"""Records of lines that another process has decoded: found where they stand, without reading all of them."""

import random

import numpy as np
import pytest

from uniqdb.stream import line_block
from uniqdb.stream.line_block import LineBlock

POSITION = 7_000


def block_of(data: bytes, there: bytes, asked: list[tuple[int, int]]) -> LineBlock:
    """A block of these lines; ``there``: what the file has by now. What is read of it goes to ``asked``."""

    def read(start: int, end: int) -> bytes:
        asked.append((start, end))
        return there[start - POSITION : end - POSITION]

    return LineBlock(b"", POSITION, 0, data.count(b"\n"), len(data), np.empty(0, np.int64), read=read)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    monkeypatch.setattr(line_block, "_READ_BYTES_MIN", 64)
    rng = random.Random(4)
    return [b"x" * rng.randrange(90) for _ in range(300)]


@pytest.mark.parametrize("seed", range(4))
def test_every_record_is_found_in_any_order(lines: list[bytes], seed: int) -> None:
    data = b"".join(one + b"\n" for one in lines)
    asked: list[tuple[int, int]] = []
    block = block_of(data, data, asked)
    order = random.Random(seed).sample(range(300), 300)
    for line in order:
        start, record = block.record(line)
        assert record == lines[line]
        assert data[start : start + len(record)] == record
    assert [start for start, _ in asked] == [POSITION, *(end for _, end in asked[:-1])], "nothing is read twice"
    assert asked[-1][1] == POSITION + len(data)


def test_for_one_of_the_first_records_little_is_read(lines: list[bytes]) -> None:
    data = b"".join(one + b"\n" for one in lines)
    asked: list[tuple[int, int]] = []
    block = block_of(data, data, asked)
    block.record(0)
    assert sum(end - start for start, end in asked) <= 128
    block.record(299)
    assert len(asked) < 12, "twice as much each time"


def test_of_a_file_that_was_shortened_the_records_are_empty(lines: list[bytes]) -> None:
    data = b"".join(one + b"\n" for one in lines)
    there = data[: data.index(b"\n", len(data) // 2) + 1]
    block = block_of(data, there, [])
    assert block.record(3)[1] == lines[3]
    assert block.record(299)[1] == b""
    assert block.record(there.count(b"\n") - 1)[1] == lines[there.count(b"\n") - 1]
