"""One event file: where it is, what it begins with, and how events get into it.

Thread rule: `EventFile` is called by one thread at a time; reading is up to the caller.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError

from paramserve_core.errors import DataLossError, NotFoundError
from paramserve_core.records import read_records, record
from paramserve_protos.v1.event_pb2 import Event, SourceMetadata

_VERSION: Final = "brain.Event:2"
"""What TensorBoard knows an event file by."""


class EventFile:
    """An event file that is being written.

    Args:
        directory: where it is; made if it does not exist.
        suffix: the end of its name.
    """

    def __init__(self, directory: str, suffix: str) -> None:
        began = time.time()
        Path(directory).mkdir(parents=True, exist_ok=True)
        base = f"events.out.tfevents.{int(began):010d}.{socket.gethostname()}"
        self._descriptor, self.path = _create(Path(directory), base, suffix)
        self._pending: list[bytes] = []
        source = SourceMetadata(writer="paramserve")
        self.add(Event(wall_time=began, file_version=_VERSION, source_metadata=source))
        self.flush()

    @property
    def pending(self) -> int:
        """How many events are not in the file yet."""
        return len(self._pending)

    def add(self, event: Event) -> None:
        """Adds an event; it is in the file after `flush`."""
        self._pending.append(record(event.SerializeToString()))

    def flush(self) -> None:
        """Writes the events that are not in the file yet.

        Raises:
            OSError: the disk is full or gone; what was not written stays pending.
        """
        data = memoryview(b"".join(self._pending))
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        finally:
            rest = bytes(data[written:])
            self._pending = [rest] if rest else []

    def close(self) -> None:
        """Flushes, and closes the file.

        Raises:
            OSError: as for `flush`; the file is closed all the same.
        """
        try:
            self.flush()
        finally:
            os.close(self._descriptor)


def _create(directory: Path, base: str, suffix: str) -> tuple[int, str]:
    """A new file; two writers that begin in one second get a file each."""
    number = 0
    while True:
        path = directory / f"{base}{f'.{number}' if number else ''}{suffix}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            return os.open(path, flags, 0o666), str(path)
        except FileExistsError:
            number += 1


def summary_iterator(path: Any) -> Iterator[Event]:
    """The events of an event file, in the order in which they were written.

    Args:
        path: the file.

    Raises:
        NotFoundError: there is no such file.
        DataLossError: a record is damaged, or the last one was cut off (its writer may not have
            written all of it yet).
    """
    try:
        stream = open(path, "rb")  # noqa: SIM115 # closed below, when the last event was taken
    except FileNotFoundError:
        raise NotFoundError(None, None, f"{path}: there is no such file") from None
    with stream:
        for content in read_records(stream, str(path)):
            try:
                yield Event.FromString(content)
            except DecodeError as error:
                raise DataLossError(None, None, f"{path}: a record is no Event: {error}") from None
