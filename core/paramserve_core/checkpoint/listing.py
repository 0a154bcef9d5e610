"""Which checkpoints a directory on this machine has.

Thread rule: pure functions, but for the disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from paramserve_core.checkpoint.any_disk import AnyDisk
from paramserve_core.checkpoint.disk import Disk, op_error
from paramserve_core.checkpoint.index import Layout
from paramserve_core.checkpoint.json_fields import MAX_INT
from paramserve_core.checkpoint.places import (
    BUNDLE_INDEX_SUFFIX,
    INDEX_SUFFIX,
    CheckpointPlace,
)
from paramserve_core.checkpoint.reader import CheckpointReader
from paramserve_core.checkpoint.retention import read_state
from paramserve_core.checkpoint.tf_bundle import has_bundle
from paramserve_core.checkpoint.tf_v1 import is_table
from paramserve_core.checkpoint.urls import absolute, join
from paramserve_core.errors import OpError

_STEP: Final = re.compile(r"-(\d+)$")
_SHARD_OF_TABLE: Final = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass(frozen=True, slots=True)
class Listed:
    """One checkpoint.

    Attributes:
        path: for `Saver.restore`.
        layout: its format; None where the index is damaged.
        step: the training step, where it is known.
        tensors: how many.
        nbytes: of all tensors.
        is_newest: the state file names it as the newest.
        is_kept: the state file lists it.
        problem: what is wrong with it; empty: nothing that shows without reading it all.
    """

    path: str
    layout: Layout | None
    step: int | None
    tensors: int
    nbytes: int
    is_newest: bool
    is_kept: bool
    problem: str


def list_checkpoints(directory: str | os.PathLike[str], disk: Disk | None = None) -> list[Listed]:
    """The checkpoints in a directory: first those of the state file in its order, then the others.

    Raises:
        NotFoundError: there is no such directory.
        FailedPreconditionError: the state file is something else.
    """
    disk = disk or AnyDisk()
    folder = absolute(directory)
    try:
        state = read_state(disk, folder)
        names = list(_names(disk, folder))
    except OSError as error:
        raise op_error(error) from error
    kept = [] if state is None else list(state.all_model_checkpoint_paths)
    newest = "" if state is None else state.model_checkpoint_path
    ordered = dict.fromkeys([name for name in kept if name in set(names)])
    ordered.update(dict.fromkeys(sorted(names, key=_by_step)))
    return [
        _listed(disk, join(os.fspath(directory), name), name == newest, name in kept)
        for name in ordered
    ]


def step_in_name(name: str) -> int | None:
    """The step that a saver put behind a checkpoint's name; None if it is not one of 64 bits."""
    match = _STEP.search(name)
    step = MAX_INT + 1 if match is None else int(match[1])
    return None if step > MAX_INT else step


def _names(disk: Disk, folder: PurePath) -> Iterator[str]:
    """Names of what look like checkpoints."""
    files = disk.names(folder)
    for file in files:
        if file.endswith(INDEX_SUFFIX):
            yield file.removesuffix(INDEX_SUFFIX)
        elif file.endswith(BUNDLE_INDEX_SUFFIX):
            place = CheckpointPlace(folder, file.removesuffix(BUNDLE_INDEX_SUFFIX))
            if place.name and has_bundle(disk, place, files):
                yield place.name
        elif is_table(disk, folder / file):
            yield _SHARD_OF_TABLE.sub("", file)


def _by_step(name: str) -> tuple[str, int]:
    step = step_in_name(name)
    return _STEP.sub("", name), -1 if step is None else step


def _listed(disk: Disk, path: str, is_newest: bool, is_kept: bool) -> Listed:
    try:
        reader = CheckpointReader(path, disk)
    except OpError as error:
        step = step_in_name(path)
        return Listed(path, None, step, 0, 0, is_newest, is_kept, error.message)
    index = reader.index
    missing = reader.missing_files
    return Listed(
        path,
        index.layout,
        index.step if index.step is not None else step_in_name(path),
        len(index.tensors),
        index.total_bytes,
        is_newest,
        is_kept,
        _missing(missing),
    )


def _missing(files: Iterable[str]) -> str:
    names = sorted(files)
    if not names:
        return ""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}: not on this machine"
