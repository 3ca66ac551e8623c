"""Packing of records sections, written from the formats' own documents: the lz4 block format and
RFC 8878 for zstd.

The encoders are as simple as they can be, so that everything in the formats that no table has to
be built for is there: literals and matches that overlap themselves; blocks that stand there as they
are, and blocks of one byte that repeats. What a real encoder writes is in one frame that the
reference implementation made.
"""

import struct

LZ4, ZSTD = 1, 2
ZSTD_MAGIC = bytes.fromhex("28b52ffd")
# A block of zstd has at most so many bytes, packed or not.
BLOCK = 128 << 10


def lz4_length(length):
    """The rest of a length that did not fit into four bits."""
    if length < 15:
        return b""
    full, rest = divmod(length - 15, 255)
    return b"\xff" * full + bytes([rest])


def lz4_sequence(literals, match=None):
    offset, length = match or (0, 4)
    token = bytes([min(len(literals), 15) << 4 | min(length - 4, 15)])
    out = token + lz4_length(len(literals)) + literals
    return out + struct.pack("<H", offset) + lz4_length(length - 4) if match else out


def lz4_literals(data):
    """One block without any match."""
    return lz4_sequence(data)


def lz4_block(data):
    """One block with the longest match at the last place where four bytes stood before."""
    out, seen, at, begun = b"", {}, 0, 0
    # The last match begins twelve bytes before the end, and the last five bytes are literals.
    while at < len(data) - 12:
        before = seen.get(data[at : at + 4])
        seen[data[at : at + 4]] = at
        if before is None or at - before > 0xFFFF:
            at += 1
            continue
        end = at + 4
        while end < len(data) - 5 and data[end] == data[end - at + before]:
            end += 1
        out += lz4_sequence(data[begun:at], (at - before, end - at))
        at = begun = end
    return out + lz4_sequence(data[begun:])


def zstd_frame(blocks):
    """A frame of blocks (kind, size, bytes) without content size, of a window of 1 MiB."""
    out = ZSTD_MAGIC + bytes([0x00, 0x50])
    for index, (kind, size, data) in enumerate(blocks):
        last = index + 1 == len(blocks)
        out += struct.pack("<I", size << 3 | kind << 1 | last)[:3] + data
    return out


def zstd_raw(data):
    """Blocks that stand there as they are."""
    pieces = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)] or [b""]
    return zstd_frame([(0, len(piece), piece) for piece in pieces])


def zstd_runs(data):
    """Runs of one byte as blocks of their own, the rest as it is."""
    blocks, at, begun = [], 0, 0
    while at < len(data):
        end = at
        while end < min(len(data), at + BLOCK) and data[end] == data[at]:
            end += 1
        if end - at >= 32:
            if begun < at:
                blocks.append((0, at - begun, data[begun:at]))
            blocks.append((1, end - at, data[at : at + 1]))
            begun = end
        at = end
    if begun < len(data) or not blocks:
        blocks.append((0, len(data) - begun, data[begun:]))
    return zstd_frame(blocks)


def zstd_zeros(count):
    """So many blocks of 128 KiB zeros, four bytes each."""
    return zstd_frame([(1, BLOCK, b"\x00")] * count)
