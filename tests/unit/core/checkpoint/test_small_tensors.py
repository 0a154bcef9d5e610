"""Small tensors are read with their neighbours: each is checked, and gets memory of its own."""

from __future__ import annotations

import zlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramserve_core import dtypes
from paramserve_core.checkpoint.index import Layout, Part, StoredTensor
from paramserve_core.checkpoint.runs import SMALL_BYTES, SmallTensor, is_small, read_small
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


def stored(file: CountingFile, number: int, offset: int, array, name="f") -> SmallTensor:
    """Puts an array into a file; what is wanted of it."""
    content = array.reshape(-1).view(np.uint8).tobytes()
    file.content[offset : offset + len(content)] = content
    checksum = zlib.crc32(content)
    part = Part(Box.whole(array.shape), name, offset, len(content), (checksum,), 1 << 20)
    return SmallTensor(number, f"t{number}", part, array.dtype, array.shape)


def read(files, wanted):
    arrays = [None] * len(wanted)
    read_small(RUNTIME, files, wanted, arrays)
    return arrays


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
        wanted.append(stored(files[name], number, ends[name] + gap, array, name))
        ends[name] += gap + array.nbytes
        values.append(array)
    order.shuffle(wanted)
    for value, found in zip(values, read(files, wanted), strict=True):
        assert found.dtype == value.dtype
        assert found.shape == value.shape
        assert found.tobytes() == value.tobytes()
        assert found.flags.owndata
        assert found.flags.writeable


def test_neighbours_are_read_together_and_what_lies_far_between_is_not():
    file = CountingFile(bytes(10 << 20))
    near = [stored(file, i, 4000 * i, np.full(900, i, np.float32)) for i in range(1000)]
    far = stored(file, 1000, 9 << 20, np.ones(5, np.float32))
    read({"f": file}, [*near, far])
    assert len(file.reads) <= 6  # 4 MB, a megabyte at a time, and one more.
    assert sum(nbytes for _, nbytes in file.reads) <= 4_000_020


@pytest.mark.parametrize("number", [0, 1, 2])
def test_damage_is_found_in_the_tensor_that_has_it(number):
    file = CountingFile(bytes(1000))
    wanted = [stored(file, i, 100 * i, np.arange(25, dtype=np.float32)) for i in range(3)]
    file.content[100 * number + 40] ^= 1
    reason = f"bytes {100 * number} to {100 * number + 99}, which belong to the tensor 't{number}'"
    with pytest.raises(DataLossError, match=reason):
        read({"f": file}, wanted)


def test_a_bool_that_is_none_is_refused():
    file = CountingFile(bytes(10))
    wanted = stored(file, 0, 0, np.array([0, 2], np.uint8))
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
