"""Inflating a whole gzip file in one go, several times as fast as a stream of blocks, into a bounded size."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import IO

try:
    import deflate
except ImportError:  # No wheel for this system: zlib gives the same bytes, later.
    deflate = None  # type: ignore[assignment]

_MAGIC = b"\x1f\x8b\x08"
_FIXED_HEADER, _TRAILER = 10, 8
_HEADER_CRC, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16
_RESERVED = 0xE0
_MODULUS = 1 << 32


def inflate_whole(file: IO[bytes], at_least: int, at_most: int) -> bytearray | None:
    """Return what a gzip file holds if that is certain to be whole and to have a length within bounds.

    The length is taken from the trailer, memory is set aside for that much and no more, and the checksum must agree;
    files of several members, or with anything after their only one, disagree with one of the two.

    Args:
        file: open for reading bytes; its position is kept.
        at_least: fewest bytes it may inflate to.
        at_most: most bytes it may inflate to.

    Returns:
        The bytes, or None whenever there is any doubt: then let `gzip.GzipFile` read it and say what is wrong.

    Raises:
        OSError: if the file cannot be read.

    References:
        P. Deutsch, 1996, GZIP file format specification version 4.3, RFC 1952.
    """
    if at_most >= _MODULUS or os.fstat(file.fileno()).st_size > _FIXED_HEADER + _largest_stored(at_most) + _TRAILER:
        return None
    position = file.tell()
    try:
        file.seek(0)
        stored = file.read()
    finally:
        file.seek(position)
    start = _body_start(stored)
    if start is None:
        return None
    checksum, length = (int.from_bytes(stored[end - 4 : end or None], "little") for end in (-4, 0))
    if not max(1, at_least) <= length <= at_most:  # A length of 0 may as well be padding after the trailer.
        return None
    inflate, crc32 = _tools()
    inflated = inflate(memoryview(stored)[start:-_TRAILER], length)
    return inflated if inflated is not None and len(inflated) == length and crc32(inflated) == checksum else None


def _largest_stored(length: int) -> int:
    # Stored blocks of 64 KiB cost five bytes each; the rest is for a file name and a comment.
    return length + length // 1000 + (1 << 16)


def _body_start(stored: bytes) -> int | None:
    """Return where the compressed data of the first member start, or None if its header is not understood."""
    if len(stored) < _FIXED_HEADER + _TRAILER or not stored.startswith(_MAGIC) or stored[3] & _RESERVED:
        return None
    flags, start = stored[3], _FIXED_HEADER
    if flags & _EXTRA:
        start += 2 + int.from_bytes(stored[start : start + 2], "little")
    for flag in (_NAME, _COMMENT):
        if flags & flag:
            end = stored.find(b"\0", start)
            if end < 0:
                return None
            start = end + 1
    if flags & _HEADER_CRC:
        start += 2
    return start if start <= len(stored) - _TRAILER else None


def _tools() -> tuple[Callable[[memoryview, int], bytearray | None], Callable[[bytearray], int]]:
    return (_with_zlib, zlib.crc32) if deflate is None else (_with_libdeflate, deflate.crc32)


def _with_libdeflate(body: memoryview, length: int) -> bytearray | None:
    try:
        return deflate.deflate_decompress(body, length)
    except deflate.DeflateError:
        return None


def _with_zlib(body: memoryview, length: int) -> bytearray | None:
    # One byte more than is wanted shows that there is more.
    stream = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        return bytearray(stream.decompress(body, length + 1))
    except zlib.error:
        return None
