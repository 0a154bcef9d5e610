"""Structured logs: one JSON object a line, on stderr.

What a peer did wrong is logged once for each peer and kind, or one that keeps trying would fill the
disk.

Thread rule: `configure` is called once, at the start of a process.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from typing import Final

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record as JSON: time (UTC), level, logger, message, and what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats one record."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields.update({k: v for k, v in vars(record).items() if k not in _OWN})
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class OncePerPeer(logging.Filter):
    """Passes the first of the records that name the same `peer` and have the same message.

    Peers count by host, since each connection has another port. Only so many are remembered; the
    oldest is forgotten first.

    Args:
        most: how many to remember.
    """

    def __init__(self, most: int = 4096) -> None:
        super().__init__()
        self._most = most
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], None] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is news."""
        peer = getattr(record, "peer", None)
        if peer is None:
            return True
        key = (str(peer).rpartition(":")[0], str(record.msg))
        with self._lock:
            if key in self._seen:
                return False
            if len(self._seen) >= self._most:
                del self._seen[next(iter(self._seen))]
            self._seen[key] = None
            return True


def configure(level: str) -> None:
    """Sends the logs of this process to stderr, from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(OncePerPeer())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
