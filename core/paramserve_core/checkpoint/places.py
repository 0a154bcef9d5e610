"""Where the files of a checkpoint are, and which paths a client may name.

A checkpoint's path is a directory and a name; the names of its files follow from that name. A
client of a server with a root names paths below the root, relative to it or absolute; both may be
URLs. Symbolic links are resolved before a path is judged, so neither `..` nor a link leads out.

Thread rule: immutable.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from paramserve_core.checkpoint.disk import Disk
from paramserve_core.checkpoint.urls import UrlPath, location, split
from paramserve_core.errors import InvalidArgumentError, PermissionDeniedError

INDEX_SUFFIX: Final = ".safetensors.index.json"
BUNDLE_INDEX_SUFFIX: Final = ".index"
TEMPORARY: Final = ".tmp"

_MAX_PATH: Final = 4096
_MAX_FILE_NAME: Final = 255
_MAX_NAME: Final = _MAX_FILE_NAME - len(".0123456789abcdef-00000-of-00001.safetensors.tmp")
_SAVE_ID: Final = re.compile(r"[0-9a-f]{16}")
_OF_SAVE: Final = re.compile(
    r"(?P<name>.+)\.(?P<save>[0-9a-f]{16})-\d{5}-of-\d{5}"
    r"\.(?:safetensors|(?:safetensors|data|index|meta|state)\.tmp)",
    re.DOTALL,
)
_BUNDLE_DATA: Final = re.compile(r"(?P<name>.+)\.data-\d{5}-of-\d{5}", re.DOTALL)
_ALL_SHARDS: Final = re.compile(r"-\?{5}-of-\d{5}$")
_META_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9_-]{1,40}")


def check_save_id(save_id: str) -> str:
    """The id of a save or a restore, if it is one.

    Raises:
        InvalidArgumentError: it is not 16 hexadecimal digits.
    """
    if not _SAVE_ID.fullmatch(save_id):
        raise InvalidArgumentError(
            None, None, f"{save_id[:40]!r} is no id of a save or restore: 16 hexadecimal digits"
        )
    return save_id


def checkpoint_name(name: str) -> str:
    """The last part of a checkpoint's path, if it is one: what is appended to it must fit, too.

    Raises:
        InvalidArgumentError: see `file_name`.
    """
    return file_name(name, "name of a checkpoint", _MAX_NAME)


def file_name(name: str, what: str, max_bytes: int = _MAX_FILE_NAME) -> str:
    """A name of a file in a directory that the caller chose, if it is one.

    Raises:
        InvalidArgumentError: it is empty, leads elsewhere, is too long or holds control characters.
    """
    if not name or name in (".", "..") or "/" in name or not name.isprintable():
        raise InvalidArgumentError(
            None, None, f"{name[:100]!r} is no {what}: one name, without '/' or control characters"
        )
    if _bytes_in(name) > max_bytes:
        raise InvalidArgumentError(
            None, None, f"{name[:40]!r}...: a {what} has at most {max_bytes} bytes"
        )
    return name


@dataclass(frozen=True, slots=True)
class SavedFile:
    """What the name of a file of an own save tells: the checkpoint's name and the save's id."""

    name: str
    save_id: str

    @staticmethod
    def parse(file: str) -> SavedFile | None:
        """Reads the name of a file; None if it is of another kind."""
        match = _OF_SAVE.fullmatch(file)
        return None if match is None else SavedFile(match["name"], match["save"])


@dataclass(frozen=True, slots=True)
class CheckpointPlace:
    """A checkpoint's directory, resolved, and its name in it."""

    directory: PurePath
    name: str

    def __str__(self) -> str:
        return str(self.directory / self.name)

    @property
    def index(self) -> PurePath:
        """The index of the own format."""
        return self.directory / (self.name + INDEX_SUFFIX)

    @property
    def bundle_index(self) -> PurePath:
        """The index of TensorFlow's V2 format."""
        return self.directory / (self.name + BUNDLE_INDEX_SUFFIX)

    @property
    def table(self) -> PurePath:
        """The file of TensorFlow's V1 format, where it is one file."""
        return self.directory / self.name

    def bundle_data(self, shard: int, count: int) -> PurePath:
        """A data file of TensorFlow's V2 format."""
        return self.directory / f"{self.name}.data-{shard:05}-of-{count:05}"

    def of_save(self, save_id: str, shard: int, count: int, kind: str) -> PurePath:
        """A file that one task writes in one save; see `SavedFile` for the way back."""
        return self.directory / f"{self.name}.{save_id}-{shard:05}-of-{count:05}.{kind}"

    def meta_graph(self, path: str) -> PurePath:
        """The file of the graph that a client names: the checkpoint's name and a short suffix.

        Raises:
            InvalidArgumentError: it is another file.
        """
        name = os.path.basename(path)
        suffix = name.removeprefix(self.name)
        if suffix == name or not _META_SUFFIX.fullmatch(suffix):
            raise InvalidArgumentError(
                None,
                None,
                f"{path[:200]!r} is no place for the graph of checkpoint {self.name!r}: it is "
                "written beside it, under the same name with a suffix such as '.meta'",
            )
        return self.directory / name

    def is_bundle_data(self, file: str) -> bool:
        """Whether a file of this name is a data file of this checkpoint in the V2 format."""
        data = _BUNDLE_DATA.fullmatch(file)
        return data is not None and data["name"] == self.name

    def is_shard(self, file: str) -> bool:
        """Whether a file of this name holds tensors of this checkpoint, in some format."""
        saved = SavedFile.parse(file)
        if saved is not None:
            return saved.name == self.name and not file.endswith(TEMPORARY)
        if file == self.name or self.is_bundle_data(file):
            return True
        rest = file.removeprefix(self.name)
        return rest != file and bool(re.fullmatch(r"-\d{5}-of-\d{5}", rest))


class Places:
    """The paths that clients may name.

    Args:
        disk: the file system, to resolve symbolic links in.
        root: where all paths must be, or None for the whole disk.
    """

    def __init__(self, disk: Disk, root: PurePath | None = None) -> None:
        self._disk = disk
        self._root = None if root is None else disk.resolve(root)

    def checkpoint(self, path: str) -> CheckpointPlace:
        """The place of the checkpoint at `path`.

        TensorFlow's V1 savers answer a pattern of all files, such as `model-?????-of-00002`; it
        means `model`.

        Raises:
            InvalidArgumentError: no path, or one that ends in a slash.
            PermissionDeniedError: it is outside the root.
        """
        _check_path(path)
        head, tail = split(path)
        name = checkpoint_name(_ALL_SHARDS.sub("", tail))
        return CheckpointPlace(self._confined(head, path), name)

    def directory(self, path: str) -> PurePath:
        """A directory that a client names; the root, or the current one, if it is empty.

        Raises:
            InvalidArgumentError: no path.
            PermissionDeniedError: it is outside the root.
        """
        if path:
            _check_path(path)
        return self._confined(path, path)

    def _confined(self, directory: str, path: str) -> PurePath:
        where = location(directory)
        if not isinstance(where, UrlPath):
            where = (Path.cwd() if self._root is None else self._root) / where
        resolved = self._disk.resolve(where)
        if self._root is not None and not resolved.is_relative_to(self._root):
            raise PermissionDeniedError(
                None,
                None,
                f"{path!r} is outside the directory that this server keeps checkpoints in; give a "
                "path relative to that directory (the server's --checkpoint-root)",
            )
        return resolved


def _check_path(path: str) -> None:
    if not path or "\0" in path or _bytes_in(path) > _MAX_PATH:
        raise InvalidArgumentError(
            None, None, f"{path[:100]!r} is no path of a checkpoint (1 to {_MAX_PATH} bytes)"
        )


def _bytes_in(name: str) -> int:
    """The bytes of a name, or of a path.

    Raises:
        InvalidArgumentError: it has half a character.
    """
    try:
        return len(os.fsencode(name))
    except UnicodeEncodeError:
        raise InvalidArgumentError(
            None,
            None,
            f"{name[:100]!r} has a lone surrogate, which is no character; give it another name",
        ) from None
