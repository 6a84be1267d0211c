import numpy as np
import pytest

from uniqdb.stream.offset_fence import OffsetFence, Passed


def admit(fence: OffsetFence, *offsets: int) -> Passed:
    return fence.admit(0, np.array(offsets, np.int64))


def test_what_comes_next_passes() -> None:
    fence = OffsetFence({0: 5, 1: 0})
    assert admit(fence, 5, 6, 7) == Passed(0, 3)
    assert admit(fence) == Passed(0, 0)
    assert fence.next_offsets == {0: 8, 1: 0}


@pytest.mark.parametrize(
    ("offsets", "passed", "then"),
    [((3, 4), Passed(2, 2), 5), ((3, 4, 5, 6), Passed(2, 4), 7), ((4, 5), Passed(1, 2), 6)],
)
def test_what_was_handed_out_before_is_trimmed(offsets: tuple[int, ...], passed: Passed, then: int) -> None:
    fence = OffsetFence({0: 5})
    assert admit(fence, *offsets) == passed
    assert fence.next_offsets == {0: then}


def test_a_jump_is_read_again_and_then_believed() -> None:
    fence = OffsetFence({0: 5})
    assert admit(fence, 5, 6, 9, 10) == Passed(0, 2, jump=(7, 9))
    assert fence.next_offsets == {0: 7}
    assert admit(fence, 9, 10) == Passed(0, 2, skipped=2)
    assert fence.next_offsets == {0: 11}
    # The partition is known to have gaps.
    assert admit(fence, 12, 14) == Passed(0, 2, skipped=2)
    assert fence.next_offsets == {0: 15}


def test_a_jump_that_was_a_mistake_of_the_client_is_forgotten() -> None:
    fence = OffsetFence({0: 5})
    assert admit(fence, 7).jump == (5, 7)
    assert admit(fence, 5, 6, 7) == Passed(0, 3)
    # Another one is suspected anew, and only of the partition where it was confirmed is more believed.
    assert admit(fence, 9).jump == (8, 9)


def test_trimmed_and_jumped_at_once() -> None:
    fence = OffsetFence({0: 5})
    assert admit(fence, 3, 4, 5, 8) == Passed(2, 3, jump=(6, 8))
    assert admit(fence, 4, 5, 8) == Passed(2, 3, skipped=2)


def test_gaps_of_one_partition_say_nothing_of_another() -> None:
    fence = OffsetFence({0: 0, 1: 0})
    admit(fence, 1)
    assert admit(fence, 1).skipped == 1
    assert fence.admit(1, np.array([1], np.int64)).jump == (0, 1)


def test_compacted_topics_have_gaps_everywhere() -> None:
    fence = OffsetFence({0: 0}, is_compacted=True)
    assert admit(fence, 20, 21, 30) == Passed(0, 3, skipped=28)
    assert fence.next_offsets == {0: 31}


def test_the_end_of_a_partition_without_records_before_it() -> None:
    fence = OffsetFence({0: 5})
    assert fence.reach_end(0, 5) == Passed(0, 0)
    assert fence.reach_end(0, 4) == Passed(0, 0)
    assert fence.reach_end(0, 7) == Passed(0, 0, jump=(5, 7))
    assert fence.next_offsets == {0: 5}
    assert fence.reach_end(0, 7) == Passed(0, 0, skipped=2)
    assert fence.next_offsets == {0: 7}
