"""Saves of one session that were begun and not yet asked for their end.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import itertools
import threading
from typing import Final

from paramserve_core.checkpoint.background import RunningSave
from paramserve_core.errors import DeadlineExceededError, InvalidArgumentError
from paramserve_core.master.interface import Master
from paramserve_protos.v1 import checkpoint_service_pb2

_MAX_KEPT: Final = 64
_MAX_WAIT_S: Final = 60.0


class BegunSaves:
    """The saves, by the number that the client was told.

    Of those that have ended the newest few are kept, so that a client which asks twice is answered
    twice.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._saves: dict[int, RunningSave] = {}

    def begin(
        self, master: Master, request: checkpoint_service_pb2.BeginSaveRequest
    ) -> checkpoint_service_pb2.BeginSaveResponse:
        """Begins a save; answers when its values are leased."""
        save = master.begin_save(request.save)
        with self._lock:
            number = next(self._numbers)
            self._saves[number] = save
            ended = [n for n, s in self._saves.items() if s.progress() >= 1.0]
            for old in ended[:-_MAX_KEPT]:
                del self._saves[old]
        return checkpoint_service_pb2.BeginSaveResponse(save=number)

    def wait(
        self, request: checkpoint_service_pb2.AwaitSaveRequest
    ) -> checkpoint_service_pb2.AwaitSaveResponse:
        """Waits for a save to end, as long as the client wants at most.

        Raises:
            InvalidArgumentError: there is no such save.
            OpError: the checkpoint was not written.
        """
        save = self._saves.get(request.save)
        if save is None:
            raise InvalidArgumentError(None, None, f"the session has no save {request.save}")
        response = checkpoint_service_pb2.AwaitSaveResponse(progress=save.progress())
        try:
            response.saved.CopyFrom(save.result(min(max(request.timeout_s, 0.0), _MAX_WAIT_S)))
            response.progress = 1.0
        except DeadlineExceededError:
            if save.progress() >= 1.0:  # It has ended since, perhaps with this very error.
                response.saved.CopyFrom(save.result())
        return response
