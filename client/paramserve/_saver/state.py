"""The state file of a directory of checkpoints: which is the newest, and which are kept.

A function that is given a session asks the servers, whose disks the checkpoints are on; without
one it looks at the disk of this machine, as TensorFlow's does.

Thread rule: pure functions, but for the disk.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import Any

from paramserve._saver.session_access import master_of, timeout_of
from paramserve._saver.texts import path_text
from paramserve_core.checkpoint.any_disk import AnyDisk
from paramserve_core.checkpoint.finding import choose, read_index
from paramserve_core.checkpoint.places import Places
from paramserve_core.checkpoint.retention import read_state, replace_state
from paramserve_core.checkpoint.urls import absolute, is_url, join
from paramserve_core.errors import FailedPreconditionError, OpError
from paramserve_protos.v1.checkpoint_service_pb2 import ReadStateRequest
from paramserve_protos.v1.checkpoint_state_pb2 import CheckpointState

_log = logging.getLogger(__name__)


def generate_checkpoint_state_proto(
    save_dir: str,
    model_checkpoint_path: str,
    all_model_checkpoint_paths: Sequence[str] | None = None,
    all_model_checkpoint_timestamps: Sequence[float] | None = None,
    last_preserved_timestamp: float | None = None,
) -> CheckpointState:
    """What a state file in `save_dir` would say.

    Args:
        save_dir: the directory of the state file; paths are made relative to it where neither is
            absolute, or both are and it is above.
        model_checkpoint_path: the newest checkpoint.
        all_model_checkpoint_paths: all that are kept, oldest first; the newest is added at the
            end if it is not the last.
        all_model_checkpoint_timestamps: seconds since 1970, one for each of them.
        last_preserved_timestamp: seconds since 1970, of the last one that is kept for good.

    Raises:
        ValueError: there are not as many times as paths.
    """
    newest = os.fspath(model_checkpoint_path)
    paths = [os.fspath(path) for path in all_model_checkpoint_paths or ()]
    times = list(all_model_checkpoint_timestamps or ())
    if times and len(times) != len(paths):
        raise ValueError(
            "Checkpoint timestamps, if provided, must match checkpoint paths (given "
            f"{len(paths)} paths and {len(times)} timestamps)"
        )
    if not paths or paths[-1] != newest:
        paths.append(newest)
        if times:
            times.append(time.time())
    return CheckpointState(
        model_checkpoint_path=_relative(newest, save_dir),
        all_model_checkpoint_paths=[_relative(path, save_dir) for path in paths],
        all_model_checkpoint_timestamps=times,
        last_preserved_timestamp=last_preserved_timestamp or 0.0,
    )


def update_checkpoint_state(
    save_dir: str,
    model_checkpoint_path: str,
    all_model_checkpoint_paths: Sequence[str] | None = None,
    latest_filename: str | None = None,
    all_model_checkpoint_timestamps: Sequence[float] | None = None,
    last_preserved_timestamp: float | None = None,
) -> None:
    """Replaces the state file in a directory of this machine.

    `Saver.save` does so on the servers; this is for programs that move checkpoints.

    Args:
        save_dir: the directory.
        model_checkpoint_path: the newest checkpoint.
        all_model_checkpoint_paths: all that are kept, oldest first.
        latest_filename: the state file's name; "checkpoint" by default.
        all_model_checkpoint_timestamps: seconds since 1970, one for each of them.
        last_preserved_timestamp: seconds since 1970, of the last one that is kept for good.

    Raises:
        FailedPreconditionError: there is a file of that name which is no state file.
        ValueError: there are not as many times as paths.
    """
    state = generate_checkpoint_state_proto(
        save_dir,
        model_checkpoint_path,
        all_model_checkpoint_paths,
        all_model_checkpoint_timestamps,
        last_preserved_timestamp,
    )
    replace_state(AnyDisk(), absolute(save_dir), latest_filename or "", state)


def get_checkpoint_state(
    checkpoint_dir: str, latest_filename: str | None = None, session: Any = None
) -> CheckpointState | None:
    """What the state file of a directory says, with its relative paths made to begin there.

    Args:
        checkpoint_dir: the directory.
        latest_filename: the state file's name; "checkpoint" by default.
        session: ask the servers of this session; None: look at this machine's disk.

    Returns:
        The state, or None if there is none; what is no state file is ignored, with a warning.

    Raises:
        ValueError: the state file names no checkpoint, as when a program died while it wrote it.
        DataLossError: a relative path in the state file leads out of the directory.
    """
    directory = path_text(checkpoint_dir)
    try:
        state = _read(directory, latest_filename or "", session)
    except FailedPreconditionError as error:
        _log.warning("%s; it is ignored", error.message)
        return None
    if state is None:
        return None
    if not state.model_checkpoint_path:
        raise ValueError(
            f"Invalid checkpoint state loaded from {directory}: it names no checkpoint; restore "
            "one by its own path, or remove the state file"
        )
    state.model_checkpoint_path = join(directory, state.model_checkpoint_path)
    paths = [join(directory, path) for path in state.all_model_checkpoint_paths]
    state.all_model_checkpoint_paths[:] = paths
    return state


def _read(directory: str, latest_filename: str, session: Any) -> CheckpointState | None:
    if session is None:
        return read_state(AnyDisk(), absolute(directory), latest_filename)
    request = ReadStateRequest(directory=directory, latest_filename=latest_filename)
    master, timeout_s = master_of(session), timeout_of(session)
    content = master.read_checkpoint_state(request, timeout_s).state
    return CheckpointState.FromString(content) if content else None


def latest_checkpoint(
    checkpoint_dir: str, latest_filename: str | None = None, session: Any = None
) -> str | None:
    """The path of the newest checkpoint in a directory, for `Saver.restore`.

    Args:
        checkpoint_dir: the directory.
        latest_filename: the state file's name; "checkpoint" by default.
        session: ask the servers of this session, whose disks the checkpoints are on; None: look
            at this machine's disk, where the checkpoint must be too.

    Returns:
        The path, or None if there is none.

    Raises:
        ValueError: the state file names no checkpoint.
        DataLossError: a relative path in the state file leads out of the directory.
    """
    state = get_checkpoint_state(checkpoint_dir, latest_filename, session)
    if state is None:
        return None
    path: str = state.model_checkpoint_path
    return path if session is not None or checkpoint_exists(path) else None


def checkpoint_exists(checkpoint_prefix: str) -> bool:
    """Whether there is a checkpoint of any format at a path on this machine, or else a file.

    A file counts because a saver of TensorFlow's first format wrote one of the path's own name.
    """
    disk, path = AnyDisk(), path_text(checkpoint_prefix)
    if _is_file(disk, path):
        return True
    try:
        place = Places(disk).checkpoint(path)
        return choose({"": read_index(disk, place)}, str(place)) is not None
    except (OpError, OSError):
        return False


def _is_file(disk: AnyDisk, name: str) -> bool:
    path = absolute(name)
    try:
        return not disk.is_directory(path) and disk.modified_at(path) >= 0
    except (OpError, OSError):
        return False


def get_checkpoint_mtimes(checkpoint_prefixes: Sequence[str]) -> list[float]:
    """When the checkpoints at these paths on this machine were saved, in seconds since 1970.

    Paths without a checkpoint are left out.
    """
    found = []
    for prefix in checkpoint_prefixes:
        saved_at = saved_time(prefix)
        if saved_at is not None:
            found.append(saved_at)
    return found


def saved_time(path: str) -> float | None:
    """When the checkpoint at a path on this machine was saved; None if there is none."""
    disk = AnyDisk()
    place = Places(disk).checkpoint(os.fspath(path))
    for file in (place.index, place.bundle_index, place.table):
        try:
            return disk.modified_at(file)
        except (OSError, OpError):
            continue
    return None


def _relative(path: str, directory: str) -> str:
    if _kind(path) != _kind(directory):
        return path
    relative = os.path.relpath(path, directory)
    return path if relative.startswith("..") and os.path.isabs(path) else relative


def _kind(path: str) -> tuple[bool, bool]:
    return os.path.isabs(path), is_url(path)
