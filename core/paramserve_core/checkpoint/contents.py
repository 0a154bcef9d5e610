"""What a task's file of a checkpoint holds, as it travels from the task to the master.

In columns: of 100,000 tensors a message each would take longer to make and to read than to write
the file. What many tensors have in common, their type and shape, is there once.

Thread rule: pure functions, and objects that belong to one thread.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from paramserve_core.checkpoint.columns import Integers, Rows, StoredForm, sums_before
from paramserve_core.checkpoint.index import Part
from paramserve_core.checkpoint.json_fields import MAX_INT, MAX_RANK
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

    def form(self, dtype: DType, shape: tuple[int, ...], box: Box) -> int:
        """The number of the form of such parts, for `add_as`."""
        known = (dtype.as_datatype_enum, shape, box.begin, box.shape)
        number = self._numbers.get(known)
        if number is None:
            number = self._numbers[known] = len(self._messages)
            self._messages.append(_form_message(dtype, shape, box))
        return number

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
        self.add_as([self.form(dtype, shape, box)], [key], [offset], [nbytes], [record])

    def add_as(
        self,
        forms: Sequence[int],
        keys: Sequence[str],
        offsets: Sequence[int],
        sizes: Sequence[int],
        records: Sequence[int],
    ) -> None:
        """Adds as many tensors as each of these has items."""
        self._forms += forms
        self._keys += keys
        self.offsets += offsets
        self.sizes += sizes
        self._records += records
        self.checksums += [()] * len(keys)

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


class _Columns(NamedTuple):
    """What a file is said to hold, as far as any format has it: checked, not yet put together."""

    keys: list[str]
    forms: list[Form]
    form: Integers
    offset: Integers
    nbytes: Integers
    counts: Integers
    checksums: list[int]


def _columns(shard: messages.WriteShardResponse) -> _Columns:
    columns = shard.tensors
    keys, end = list(columns.key), min(shard.bytes, MAX_INT)
    per_key = (columns.form, columns.offset, columns.bytes, columns.checksum_count)
    lengths = set(map(len, (*per_key, columns.record)))
    checksums = list(columns.checksums)
    if lengths != {len(keys)} or sum(columns.checksum_count) != len(checksums):
        raise _wrong(f"the columns of its description differ in length: {sorted(lengths)}", shard)
    for key, first, size in zip(keys, columns.offset, columns.bytes, strict=True):
        if first + size > end:
            raise _wrong(f"{key} would be behind its end", shard)
    form, offset, nbytes, counts = [np.array(list(column), np.int64) for column in per_key]
    if keys and int(form.max()) >= len(columns.forms):
        raise _wrong(f"it has {len(columns.forms)} forms, not {int(form.max()) + 1}", shard)
    forms = [_form(message, shard) for message in columns.forms]
    if not shard.chunk_bytes and keys:
        raise _wrong("its chunks have no bytes", shard)
    return _Columns(keys, forms, form, offset, nbytes, counts, checksums)


def read_contents(shard: messages.WriteShardResponse) -> Iterator[tuple[str, Form, Part]]:
    """The tensors that a file is said to hold: names, what they are and where.

    Raises:
        InvalidArgumentError: it cannot be so.
    """
    columns = _columns(shard)
    checksums = columns.checksums
    position = 0
    for key, number, offset, nbytes, count, record in zip(
        columns.keys,
        columns.form.tolist(),
        columns.offset.tolist(),
        columns.nbytes.tolist(),
        columns.counts.tolist(),
        shard.tensors.record,
        strict=True,
    ):
        form = columns.forms[number]
        own = tuple(checksums[position : position + count])
        position += count
        yield (
            key,
            form,
            Part(form.box, shard.file, offset, nbytes, own, shard.chunk_bytes, record),
        )


def read_rows(shard: messages.WriteShardResponse) -> Rows:
    """The same as rows, which have the tensors' names, of a file of the own format.

    Raises:
        InvalidArgumentError: it cannot be so.
    """
    keys, forms, form, offset, nbytes, counts, checksums = _columns(shard)
    sizes, size = np.unique(nbytes, return_inverse=True)
    pairs, kind = np.unique(form * len(sizes) + size, return_inverse=True)
    kinds = []
    for pair in pairs.tolist():
        dtype, shape, box, _ = forms[pair // len(sizes)]
        kinds.append(StoredForm(dtype, shape, box, int(sizes[pair % len(sizes)])))
    rows = Rows(
        names=keys,
        files=[shard.file],
        file=np.zeros(len(keys), np.int64),
        forms=kinds,
        form=kind,
        offset=offset,
        checksums=np.array(checksums, np.uint32),
        first=sums_before(counts),
        chunk_bytes=shard.chunk_bytes,
    )
    for row in np.flatnonzero(rows.checksum_counts() != counts)[:1]:
        raise _wrong(f"{keys[row]} would have {counts[row]} checksums", shard)
    return rows


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
