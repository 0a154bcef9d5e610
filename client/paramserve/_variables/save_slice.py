"""Which part of a larger tensor a variable is, as a checkpoint needs to know it.

Thread rule: immutable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paramserve_protos.v1.variable_pb2 import SaveSliceInfoDef


@dataclass(frozen=True, slots=True)
class SaveSliceInfo:
    """The place of one part in the tensor that a partitioned variable is.

    In a checkpoint there is one tensor of name `full_name` and shape `full_shape`, however many
    parts wrote it and however many read it.

    Attributes:
        full_name: the name of the whole tensor.
        full_shape: its shape.
        var_offset: where the part begins, per dimension.
        var_shape: the shape of the part.

    Raises:
        ValueError: the three do not have one element per dimension, or the part is not within
            the whole.
    """

    full_name: str
    full_shape: tuple[int, ...]
    var_offset: tuple[int, ...]
    var_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        for field in ("full_shape", "var_offset", "var_shape"):
            sizes: Sequence[int] = getattr(self, field)
            object.__setattr__(self, field, tuple(int(size) for size in sizes))
        if not len(self.full_shape) == len(self.var_offset) == len(self.var_shape):
            raise ValueError(
                f"{self.full_name}: a part at {self.var_offset} of shape {self.var_shape} in a "
                f"tensor of shape {self.full_shape}; all three need one number per dimension"
            )
        for full, begin, size in zip(self.full_shape, self.var_offset, self.var_shape, strict=True):
            if begin < 0 or size < 0 or begin + size > full:
                raise ValueError(
                    f"{self.full_name}: a part at {self.var_offset} of shape {self.var_shape} is "
                    f"not within a tensor of shape {self.full_shape}"
                )

    @property
    def spec(self) -> str:
        """The part as save and restore ops write it, such as "784 200 0,392:0,200"."""
        ranges = (
            f"{begin},{size}" for begin, size in zip(self.var_offset, self.var_shape, strict=True)
        )
        return " ".join(map(str, self.full_shape)) + " " + ":".join(ranges)

    def to_proto(self, export_scope: str | None = None) -> SaveSliceInfoDef | None:
        """The place as a message.

        Args:
            export_scope: leave this scope out of the name; None answers for a name outside of it.
        """
        name: str | None = self.full_name
        if export_scope is not None:
            name = name_below(self.full_name, export_scope)
        if name is None:
            return None
        return SaveSliceInfoDef(
            full_name=name,
            full_shape=self.full_shape,
            var_offset=self.var_offset,
            var_shape=self.var_shape,
        )

    @staticmethod
    def from_proto(message: SaveSliceInfoDef, import_scope: str | None = None) -> SaveSliceInfo:
        """The place that a message describes.

        Args:
            message: the message.
            import_scope: put in front of the name.

        Raises:
            ValueError: the message makes no sense.
        """
        return SaveSliceInfo(
            f"{import_scope}/{message.full_name}" if import_scope else message.full_name,
            tuple(message.full_shape),
            tuple(message.var_offset),
            tuple(message.var_shape),
        )


def name_below(name: str, scope: str) -> str | None:
    """A name without the scope that it is in, or None if it is in another one."""
    prefix = scope.rstrip("/") + "/"
    return name[len(prefix) :] if name.startswith(prefix) else None
