"""Looking into a checkpoint on this machine, without a server.

Thread rule: a reader is immutable; every method may be called from any thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from numpy.typing import NDArray

from paramserve_core.checkpoint.any_disk import AnyDisk
from paramserve_core.checkpoint.disk import Disk, op_error
from paramserve_core.checkpoint.finding import choose, not_found, read_index
from paramserve_core.checkpoint.index import Index
from paramserve_core.checkpoint.local import check_file, read_values
from paramserve_core.checkpoint.places import Places
from paramserve_core.checkpoint.retention import read_state
from paramserve_core.checkpoint.slices import Box
from paramserve_core.checkpoint.urls import absolute, join
from paramserve_core.checkpoint.variables import missing_key
from paramserve_core.dtypes import DType
from paramserve_core.errors import NotFoundError, OpError
from paramserve_core.runtime import ThreadRuntime
from paramserve_protos.v1.types_pb2 import DataType

_MOST_TOLD: Final = 8
"""Problems of one tensor that are told in full."""

_RUNTIME: Final = ThreadRuntime("paramserve-reader", max_workers=4)
"""Shared by all readers; it has no threads before one reads something large."""


class CheckpointReader:
    """A checkpoint on this machine, of any format.

    Args:
        path: the checkpoint's path, without the suffix of any file.

    Raises:
        NotFoundError: there is no checkpoint at the path.
        DataLossError: its index is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], disk: Disk | None = None) -> None:
        self._path = os.fspath(path)
        self._disk = disk or AnyDisk()
        self._place = Places(self._disk).checkpoint(self._path)
        try:
            answer = read_index(self._disk, self._place)
        except OSError as error:
            raise op_error(error) from error
        found = choose({"": answer}, self._path)
        if found is None:
            raise not_found(self._path)
        self._found = found

    @property
    def index(self) -> Index:
        """What the checkpoint consists of."""
        return self._found.index

    @property
    def path(self) -> str:
        """The path that the reader was made with."""
        return self._path

    @property
    def missing_files(self) -> list[str]:
        """Files of the checkpoint that are not on this machine."""
        return self._found.missing_files

    def has_tensor(self, tensor_name: str) -> bool:
        """Whether there is a tensor of that name."""
        return tensor_name in self.index.tensors

    def get_tensor(self, tensor_name: str) -> NDArray[Any]:
        """The value of a tensor, all parts of it put together.

        Raises:
            NotFoundError: there is no tensor of that name, or a file is not on this machine.
            DataLossError: a file is damaged.
        """
        tensor = self.index.tensors.get(tensor_name)
        if tensor is None:
            raise missing_key(tensor_name, self.index.tensors, self._path)
        return self._read(tensor_name, Box.whole(tensor.shape))

    def _read(self, name: str, box: Box) -> NDArray[Any]:
        try:
            return read_values(self._disk, _RUNTIME, self._place, self.index, [(name, box)])[0]
        except OSError as error:
            raise op_error(error) from error

    def get_variable_to_shape_map(self) -> dict[str, list[int]]:
        """The shape of each tensor, by name."""
        return {name: list(tensor.shape) for name, tensor in self.index.tensors.items()}

    def get_variable_to_dtype_map(self) -> dict[str, DType]:
        """The type of each tensor, by name."""
        return {name: tensor.dtype for name, tensor in self.index.tensors.items()}

    def debug_string(self) -> bytes:
        """A line for each tensor: name, type and shape."""
        lines = [
            f"{name} ({DataType.Name(tensor.dtype.as_datatype_enum)}) "
            f"[{','.join(map(str, tensor.shape))}]"
            for name, tensor in self.index.tensors.items()
        ]
        return "\n".join(lines).encode()

    def verify(self) -> Iterator[tuple[str, OpError | None]]:
        """Reads and checks everything: yields each tensor's and each file's name, and its error.

        All parts of a tensor are checked: of one whose parts several servers hold, one server's
        directory lacks some, and others there may be damaged.
        """
        for name, tensor in self.index.tensors.items():
            boxes = [part.box for part in tensor.parts] or [Box.whole(tensor.shape)]
            reads = [partial(self._read, name, box) for box in boxes]
            yield name, _together([error for read in reads if (error := _error_of(read))])
        for name in self.index.files:
            yield name, _error_of(lambda name=name: self._check_file(name))  # type: ignore[misc]

    def _check_file(self, name: str) -> None:
        try:
            file = self._disk.open(self._place.directory / name)
            try:
                check_file(file, self.index.files[name])
            finally:
                file.close()
        except OSError as error:
            raise op_error(error) from error


def open_checkpoint(path: str | os.PathLike[str], disk: Disk | None = None) -> CheckpointReader:
    """Opens a checkpoint on this machine, or the newest one in a directory.

    Raises:
        NotFoundError: there is no checkpoint.
        DataLossError: its index is damaged.
    """
    disk = disk or AnyDisk()
    directory = absolute(path)
    try:
        if not disk.is_directory(directory):
            return CheckpointReader(path, disk)
        state = read_state(disk, directory)
    except OSError as error:
        raise op_error(error) from error
    if state is None or not state.model_checkpoint_path:
        raise NotFoundError(
            None,
            None,
            f"{os.fspath(path)}: the directory has no state file that names a checkpoint",
        )
    return CheckpointReader(join(os.fspath(path), state.model_checkpoint_path), disk)


def list_variables(ckpt_dir_or_file: str | os.PathLike[str]) -> list[tuple[str, list[int]]]:
    """Names and shapes of the tensors in a checkpoint on this machine, sorted by name.

    Args:
        ckpt_dir_or_file: the checkpoint, or a directory, whose newest one is meant.

    Raises:
        NotFoundError: there is no checkpoint.
    """
    shapes = open_checkpoint(ckpt_dir_or_file).get_variable_to_shape_map()
    return sorted(shapes.items())


def load_variable(ckpt_dir_or_file: str | os.PathLike[str], name: str) -> NDArray[Any]:
    """The value of a tensor in a checkpoint on this machine.

    Args:
        ckpt_dir_or_file: the checkpoint, or a directory, whose newest one is meant.
        name: the tensor; a tensor name such as "weights:0" means "weights".

    Raises:
        NotFoundError: there is no checkpoint, or no such tensor in it.
        DataLossError: a file is damaged.
    """
    return open_checkpoint(ckpt_dir_or_file).get_tensor(name.removesuffix(":0"))


def _together(errors: Sequence[OpError]) -> OpError | None:
    """One error that says all of them."""
    messages = list(dict.fromkeys(error.message for error in errors))
    if len(messages) < 2:
        return errors[0] if errors else None
    more = len(messages) - _MOST_TOLD
    told = "; ".join(messages[:_MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")
    kind: type[Any] = type(errors[0])
    together: OpError = kind(None, None, told)
    return together


def _error_of(check: Callable[[], object]) -> OpError | None:
    try:
        check()
    except OpError as error:
        return error
    return None
