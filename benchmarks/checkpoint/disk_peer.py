"""The disk by itself: as many bytes as the model has, written and read in one file.

    python -m benchmarks.checkpoint.disk_peer MODEL DIRECTORY

What is read was written just before, so it comes from memory; as restores of a checkpoint that was
just saved do. No checksum is computed, and the buffer that is read into has been touched before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from benchmarks.checkpoint.clock import settle, timed
from benchmarks.checkpoint.models import Model, model_of, obey

_CHUNK_BYTES: Final = 4 << 20


class DiskPeer:
    def __init__(self, model: Model, directory: Path) -> None:
        self._nbytes = model.nbytes
        self._path = directory / "plain"
        self._content = np.random.default_rng(0).bytes(model.nbytes)
        self._read = bytearray(self._content)

    def save(self) -> Mapping[str, float]:
        self._path.unlink(missing_ok=True)
        settle(self._nbytes)
        return {"durable": timed(self._write)}

    def _write(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        rest = memoryview(self._content)
        while rest:
            rest = rest[os.write(descriptor, rest[:_CHUNK_BYTES]) :]
        os.fsync(descriptor)
        os.close(descriptor)

    def restore(self) -> Mapping[str, float]:
        settle(self._nbytes)
        return {"restore": timed(self._read_all)}

    def _read_all(self) -> None:
        descriptor = os.open(self._path, os.O_RDONLY)
        rest = memoryview(self._read)
        while rest:
            rest = rest[os.readv(descriptor, [rest[:_CHUNK_BYTES]]) :]
        os.close(descriptor)

    def spoil(self) -> None:
        self._read[:] = bytes(len(self._read))

    def is_right(self) -> bool:
        return self._read == self._content


def main() -> None:
    obey(DiskPeer(model_of(sys.argv[1]), Path(sys.argv[2])))


if __name__ == "__main__":
    main()
