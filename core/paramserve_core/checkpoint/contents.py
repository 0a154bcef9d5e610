"""What a task's file of a checkpoint holds, as it travels from the task to the master.

In columns: of 100,000 tensors a message each would take longer to make and to read than to write
the file. What many tensors have in common, their type and shape, is there once.

Thread rule: pure functions, and objects that belong to one thread.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from paramserve_core.checkpoint.index import Part
from paramserve_core.checkpoint.json_fields import MAX_RANK
from paramserve_core.checkpoint.slices import Box, box_of_slice, slice_of_box
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.errors import InvalidArgumentError
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import checkpoint_service_pb2 as messages


class Form(NamedTuple):
    """What a part of a tensor is, wherever it is stored.

    Attributes:
        dtype: the tensor's type.
        shape: the tensor's shape.
        box: which part of it.
        is_whole: whether that is all of it.
    """

    dtype: DType
    shape: tuple[int, ...]
    box: Box
    is_whole: bool


class Contents:
    """A description of a file, tensor by tensor.

    Attributes:
        offsets: where in the file each tensor begins.
        sizes: how many bytes it has.
        checksums: what is known of its checksums; may be set later.
    """

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.sizes: list[int] = []
        self.checksums: list[Sequence[int]] = []
        self._keys: list[str] = []
        self._forms: list[int] = []
        self._records: list[int] = []
        self._numbers: dict[tuple[object, ...], int] = {}
        self._messages: list[messages.TensorForm] = []

    def add(
        self,
        key: str,
        dtype: DType,
        shape: tuple[int, ...],
        box: Box,
        offset: int,
        nbytes: int,
        record: int = 0,
    ) -> None:
        """Adds a tensor, or a part of one; see `index.Part`."""
        known = (dtype.as_datatype_enum, shape, box.begin, box.shape)
        number = self._numbers.get(known)
        if number is None:
            number = self._numbers[known] = len(self._messages)
            self._messages.append(_form_message(dtype, shape, box))
        self._keys.append(key)
        self._forms.append(number)
        self.offsets.append(offset)
        self.sizes.append(nbytes)
        self._records.append(record)
        self.checksums.append(())

    def write_to(self, message: messages.ShardTensors) -> None:
        """Puts it all into a message."""
        message.key.extend(self._keys)
        message.form.extend(self._forms)
        message.forms.extend(self._messages)
        message.offset.extend(self.offsets)
        message.bytes.extend(self.sizes)
        message.record.extend(self._records)
        message.checksum_count.extend([len(checksums) for checksums in self.checksums])
        message.checksums.extend(itertools.chain.from_iterable(self.checksums))


def read_contents(shard: messages.WriteShardResponse) -> Iterator[tuple[str, Form, Part]]:
    """The tensors that a file is said to hold: names, what they are and where.

    Raises:
        InvalidArgumentError: it cannot be so.
    """
    columns = shard.tensors
    keys, offsets, sizes = list(columns.key), list(columns.offset), list(columns.bytes)
    numbers, counts, records = (
        list(columns.form),
        list(columns.checksum_count),
        list(columns.record),
    )
    checksums = list(columns.checksums)
    lengths = set(map(len, (offsets, sizes, numbers, counts, records)))
    if lengths != {len(keys)} or sum(counts) != len(checksums):
        raise _wrong(f"the columns of its description differ in length: {sorted(lengths)}", shard)
    if numbers and max(numbers) >= len(columns.forms):
        raise _wrong(f"it has {len(columns.forms)} forms, not {max(numbers) + 1}", shard)
    forms = [_form(message, shard) for message in columns.forms]
    if not shard.chunk_bytes and keys:
        raise _wrong("its chunks have no bytes", shard)
    file, chunk_bytes, end = shard.file, shard.chunk_bytes, shard.bytes
    position = 0
    for key, number, offset, nbytes, count, record in zip(
        keys, numbers, offsets, sizes, counts, records, strict=True
    ):
        if offset + nbytes > end:
            raise _wrong(f"{key} would be behind its end", shard)
        form = forms[number]
        own = tuple(checksums[position : position + count])
        position += count
        yield key, form, Part(form.box, file, offset, nbytes, own, chunk_bytes, record)


def _form_message(dtype: DType, shape: tuple[int, ...], box: Box) -> messages.TensorForm:
    message = messages.TensorForm(dtype=dtype.as_datatype_enum, shape=TensorShape(shape).as_proto())
    if not box.is_whole(shape):
        message.slice.CopyFrom(slice_of_box(box, shape))
    return message


def _form(message: messages.TensorForm, shard: messages.WriteShardResponse) -> Form:
    try:
        dtype = as_dtype(message.dtype)
    except TypeError as error:
        raise _wrong(str(error), shard) from None
    shape = tuple([dim.size for dim in message.shape.dim])
    is_whole = not message.HasField("slice")
    box = Box.whole(shape) if is_whole else box_of_slice(message.slice)
    # A shape with a negative size does not hold its own whole.
    if len(shape) > MAX_RANK or min(shape, default=0) < 0 or not (is_whole or box.fits(shape)):
        raise _wrong(f"the part {box} of a tensor of shape {list(shape)}", shard)
    return Form(dtype, shape, box, is_whole)


def _wrong(what: str, shard: messages.WriteShardResponse) -> InvalidArgumentError:
    return InvalidArgumentError(
        None, None, f"{shard.file}: what a task says of this file cannot be right: {what}"
    )
