"""Compressed input: gzip and zstd streams, told by their first bytes, decoded as far as they can be.

A damaged stream gives all that could be decoded before the damage, and then says so. Both formats may consist of
several members (frames), one after the other, as `cat a.gz b.gz` makes them (RFC 1952, RFC 8878).
"""

import zlib
from collections.abc import Callable
from typing import Any

try:
    from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # there from Python 3.14 on
except ImportError:
    from backports import zstd

GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
MAGIC_BYTES = 4
SUFFIXES = {".gz": "gzip", ".zst": "zstd"}
"""What a file name promises."""
_GZIP_PIECE_BYTES = 64 * 1024
_ZSTD_PIECE_BYTES = 4 * 1024
"""So small that a damaged block, whose error takes all output of the call with it, takes no good block along."""
_OUTPUT_BYTES = 1024 * 1024
_GZIP_WINDOW = 31  # zlib's word for "a gzip member, with the largest window"


class Damaged(Exception):
    """Internal: the stream cannot be decoded further; everything before was handed out."""


def compression_of(first_bytes: bytes) -> str:
    """``gzip``, ``zstd`` or nothing, by the first four bytes. No JSON line begins like either."""
    if first_bytes.startswith(GZIP_MAGIC):
        return "gzip"
    return "zstd" if first_bytes.startswith(ZSTD_MAGIC) else ""


class DecodedStream:
    """The decoded bytes of a compressed stream. ``read_raw`` gives the next raw bytes, nothing at the end.

    ``silence`` is what ``read_raw`` may give, told by identity, when there is nothing to read yet; it is passed on.
    """

    def __init__(self, compression: str, read_raw: Callable[[], bytes], silence: bytes) -> None:
        self._begin = _gzip_member if compression == "gzip" else _zstd_frame
        self._name, self._is_gzip = compression, compression == "gzip"
        self._piece_bytes = _GZIP_PIECE_BYTES if self._is_gzip else _ZSTD_PIECE_BYTES
        self._read_raw, self._silence = read_raw, silence
        self._decoder: Any = None
        self._raw = b""
        self._raw_at = 0
        self._damage = ""

    def read(self) -> bytes:
        """The next decoded bytes, nothing at the end, or the silence. Raises Damaged."""
        parts: list[bytes] = []
        size_bytes = 0
        while size_bytes < _OUTPUT_BYTES and not self._damage:
            piece = self._raw[self._raw_at : self._raw_at + self._piece_bytes]
            if not piece:
                raw = self._read_raw()
                if raw is self._silence:
                    return b"".join(parts) if parts else raw
                if not raw:
                    self._damage = f"the {self._name} data ends too early" if self._decoder is not None else ""
                    break
                self._raw, self._raw_at = raw, 0
                continue
            self._raw_at += len(piece)
            parts.append(self._decode(piece))
            size_bytes += len(parts[-1])
        if not size_bytes and self._damage:
            raise Damaged(self._damage)
        return b"".join(parts)

    def _decode(self, piece: bytes) -> bytes:
        output = b""
        while piece and not self._damage:
            if self._decoder is None:
                # Tapes and some tools pad a gzip stream with zeros.
                piece = piece.lstrip(b"\0") if self._is_gzip else piece
                if not piece:
                    break
                self._decoder = self._begin()
            before = self._decoder.copy() if self._is_gzip else None
            try:
                output += self._decoder.decompress(piece)
            except (zlib.error, zstd.ZstdError, EOFError):
                if before is not None:
                    output += _as_far_as_possible(before, piece)
                self._damage = f"the {self._name} data is damaged"
                break
            piece = self._decoder.unused_data if self._decoder.eof else b""
            if self._decoder.eof:
                self._decoder = None
        return output


def _as_far_as_possible(decoder: Any, piece: bytes) -> bytes:
    """What a gzip piece holds before its damage: an error would take the output of the whole call with it."""
    output: list[bytes] = []
    for at in range(len(piece)):
        try:
            output.append(decoder.decompress(piece[at : at + 1]))
        except zlib.error:
            break
    return b"".join(output)


def _gzip_member() -> Any:
    return zlib.decompressobj(_GZIP_WINDOW)


def _zstd_frame() -> Any:
    return zstd.ZstdDecompressor()
