"""Inputs that are nearly right: seeded changes of bytes to examples that are."""

import random
from collections.abc import Sequence

TOKENS = (
    *(
        b"",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\r\n",
        b"\n",
        b'"',
        b"{",
        b"}",
        b"[",
        b"]" * 40,
        b"[" * 2_000,
        b"\\u0000",
    ),
    *(b"\\ud800", b"1e999", b"-1", b"18446744073709551616", b"NaN", b"null", b"true", b"0x10", b"2016-02-30", b"%s"),
    *(b"999999999d", b"2016-W54", b"9999-12-31", b"T24:00", b"+99:99", b"0d", b"\xc3\x28", b"../../", b"\x7f", b"'"),
)


def mutated(rng: random.Random, examples: Sequence[bytes]) -> bytes:
    """One example, changed a little or a lot; now and then as it is."""
    data = bytearray(rng.choice(examples))
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 8])):
        _change(rng, data, examples)
    return bytes(data)


def _change(rng: random.Random, data: bytearray, examples: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    kind = rng.randrange(8)
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << rng.randrange(8)
    elif kind == 1 and data:
        data[at % len(data)] = rng.randrange(256)
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        del data[at : at + rng.choice([1, 2, 4, 8, 64])]
    elif kind == 4:
        data[at:at] = rng.choice(TOKENS)
    elif kind == 5:
        piece = data[at : at + rng.choice([1, 8, 40])]
        data[at:at] = piece * rng.choice([1, 2, 50])
    elif kind == 6:
        other = rng.choice(examples)
        begin = rng.randrange(len(other) + 1)
        data[at : at + rng.choice([0, 8, 1_000])] = other[begin : begin + rng.choice([4, 40, 4_000])]
    else:
        data[at : at + 8] = rng.choice([b"\0", b"\xff", b"\x7f"]) * rng.choice([1, 4, 8])
