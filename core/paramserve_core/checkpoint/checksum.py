"""The checksum of the own format: zlib's CRC-32, by the fastest code that is installed.

`isal` computes the same numbers as `zlib` with the processor's carry-less multiplication, at five
to ten times the speed: then a checksum costs less than the copy of the bytes that it is of. Where
the package has no build for the machine, `zlib` does it.

Thread rule: a pure function, which lets other threads run while it works on many bytes.
"""

from __future__ import annotations

__all__ = ["crc32"]

try:
    from isal.isal_zlib import crc32 as crc32
except ImportError:
    from zlib import crc32 as crc32
