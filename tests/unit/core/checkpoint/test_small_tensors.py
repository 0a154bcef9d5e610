"""Small tensors are read with their neighbours: each is checked, and stays where it was read."""

from __future__ import annotations

import math
import zlib
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramserve_core import dtypes
from paramserve_core.checkpoint.columns import Rows, StoredForm
from paramserve_core.checkpoint.index import Layout, Part, StoredTensor
from paramserve_core.checkpoint.runs import SMALL_BYTES, SmallTensors, is_small, read_small
from paramserve_core.checkpoint.slices import Box
from paramserve_core.errors import DataLossError
from paramserve_core.runtime import ThreadRuntime

RUNTIME = ThreadRuntime(max_workers=2)


class CountingFile:
    """A file in memory that remembers which ranges were read."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.reads: list[tuple[int, int]] = []

    def read_into(self, buffer: memoryview, offset: int) -> None:
        self.reads.append((offset, len(buffer)))
        buffer[:] = self.content[offset : offset + len(buffer)]


class Stored(NamedTuple):
    """A tensor in a file, and that it is wanted."""

    file: str
    offset: int
    checksum: int
    dtype: np.dtype
    shape: tuple[int, ...]


def stored(file: CountingFile, offset: int, array, name="f") -> Stored:
    """Puts an array into a file."""
    content = array.reshape(-1).view(np.uint8).tobytes()
    file.content[offset : offset + len(content)] = content
    return Stored(name, offset, zlib.crc32(content), array.dtype, array.shape)


def wanted_of(found: list[Stored]) -> SmallTensors:
    """These tensors, each of a form of its own, and another one between any two of them."""
    files = sorted({tensor.file for tensor in found})
    nbytes = [tensor.dtype.itemsize * math.prod(tensor.shape) for tensor in found]
    box, count = Box.whole(()), len(found)
    rows = Rows(
        names=[f"t{row // 2}" if row % 2 else "other" for row in range(2 * count)],
        files=files,
        file=np.repeat([files.index(tensor.file) for tensor in found], 2).astype(np.int64),
        forms=[StoredForm(dtypes.uint8, (), box, size) for size in nbytes],
        form=np.repeat(np.arange(count), 2),
        offset=np.repeat(np.array([tensor.offset for tensor in found], np.int64), 2),
        checksums=np.array([tensor.checksum for tensor in found], np.uint32),
        first=np.repeat(np.arange(count), 2),
        chunk_bytes=1 << 20,
    )
    return SmallTensors(
        rows=rows,
        row=np.arange(count) * 2 + 1,
        kind=np.arange(count),
        kinds=[(tensor.dtype, tensor.shape) for tensor in found],
    )


def read(files, found):
    return read_small(RUNTIME, files, wanted_of(found))


ARRAYS = st.tuples(
    st.sampled_from([np.float32, np.int8, np.complex128, np.bool_, ml_dtypes.bfloat16]),
    st.sampled_from([(), (1,), (3,), (2, 5), (3, 1, 2), (700,)]),
    st.sampled_from([0, 1, 7, 5000, 200_000]),  # Bytes before it.
)


@settings(deadline=None, max_examples=50)
@given(arrays=st.lists(ARRAYS, max_size=12), order=st.randoms(use_true_random=False))
def test_every_tensor_comes_back_wherever_it_lies(arrays, order):
    files = {name: CountingFile(bytes(4 << 20)) for name in ("f", "g")}
    ends = dict.fromkeys(files, 0)
    values, wanted = [], []
    for number, (dtype, shape, gap) in enumerate(arrays):
        name = order.choice(sorted(files))
        array = ((np.arange(np.prod(shape, dtype=int)) + number) % 2).astype(dtype)
        array = array.reshape(shape)
        offset = -(-(ends[name] + gap) // array.itemsize) * array.itemsize
        wanted.append(stored(files[name], offset, array, name))
        ends[name] = offset + array.nbytes
        values.append(array)
    shuffled = list(zip(wanted, values, strict=True))
    order.shuffle(shuffled)
    wanted, values = zip(*shuffled, strict=True) if shuffled else ((), ())
    for value, found in zip(values, read(files, wanted), strict=True):
        assert found.dtype == value.dtype
        assert found.shape == value.shape
        assert found.tobytes() == value.tobytes()
        assert found.flags.aligned
        assert found.flags.writeable


def test_arrays_are_views_of_what_was_read_unless_most_of_that_is_of_others():
    file = CountingFile(bytes(100_000))
    close = [stored(file, 4000 * i, np.full(900, i, np.float32)) for i in range(10)]
    apart = [stored(file, 50_000 + 4000 * i, np.full(400, i, np.float32)) for i in range(10)]
    assert len({id(array.base) for array in read({"f": file}, close)}) == 1
    assert all(array.flags.owndata for array in read({"f": file}, apart))


def test_a_tensor_may_be_wanted_twice():
    file = CountingFile(bytes(100))
    tensor = stored(file, 8, np.arange(5, dtype=np.float32))
    found = read({"f": file}, [tensor, tensor])
    assert [array.tolist() for array in found] == [[0, 1, 2, 3, 4]] * 2


def test_neighbours_are_read_together_and_what_lies_far_between_is_not():
    file = CountingFile(bytes(10 << 20))
    near = [stored(file, 4000 * i, np.full(900, i, np.float32)) for i in range(1000)]
    far = stored(file, 9 << 20, np.ones(5, np.float32))
    read({"f": file}, [*near, far])
    assert len(file.reads) <= 6  # 4 MB, a megabyte at a time, and one more.
    assert sum(nbytes for _, nbytes in file.reads) <= 4_000_020


@pytest.mark.parametrize("number", [0, 1, 2])
def test_damage_is_found_in_the_tensor_that_has_it(number):
    file = CountingFile(bytes(1000))
    wanted = [stored(file, 100 * i, np.arange(25, dtype=np.float32)) for i in range(3)]
    file.content[100 * number + 40] ^= 1
    reason = f"bytes {100 * number} to {100 * number + 99}, which belong to the tensor 't{number}'"
    with pytest.raises(DataLossError, match=reason):
        read({"f": file}, wanted)


def test_a_bool_that_is_none_is_refused():
    file = CountingFile(bytes(10))
    wanted = stored(file, 0, np.array([0, 2], np.uint8))
    with pytest.raises(DataLossError, match="t0: a bool is neither 0 nor 1"):
        read({"f": file}, [wanted._replace(dtype=np.dtype(np.bool_))])


@pytest.mark.parametrize(
    ("layout", "dtype", "nbytes", "expected"),
    [
        (Layout.SAFETENSORS, dtypes.float32, SMALL_BYTES, True),
        (Layout.SAFETENSORS, dtypes.float32, SMALL_BYTES + 4, False),
        (Layout.SAFETENSORS, dtypes.float32, 0, False),
        (Layout.SAFETENSORS, dtypes.string, 100, False),
        (Layout.TENSORFLOW_V2, dtypes.float32, 100, False),
    ],
)
def test_only_small_numbers_of_the_own_format_are_read_so(layout, dtype, nbytes, expected):
    shape = (nbytes // 4,)
    part = Part(Box.whole(shape), "f", 0, nbytes, (0,), 1 << 20)
    assert is_small(layout, StoredTensor(dtype, shape, (part,))) == expected
