"""What a task says of its file comes to the master as it is, or is refused."""

from __future__ import annotations

import math

import pytest

from paramserve_core import dtypes
from paramserve_core.checkpoint.columns import Tensors
from paramserve_core.checkpoint.contents import Contents, read_contents
from paramserve_core.checkpoint.index import Layout, Part
from paramserve_core.checkpoint.merging import merge_shards
from paramserve_core.checkpoint.slices import Box
from paramserve_core.errors import InvalidArgumentError
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

WHOLE = Box.whole((4, 3))
UPPER = Box((0, 0), (2, 3))


def described() -> messages.WriteShardResponse:
    contents = Contents()
    contents.add("a", dtypes.float32, (4, 3), WHOLE, 0, 48)
    contents.add("b", dtypes.float32, (4, 3), UPPER, 48, 24, record=7)
    contents.add("c", dtypes.float32, (4, 3), WHOLE, 72, 48)
    contents.checksums[:] = [(1, 2), (), (3,)]
    shard = messages.WriteShardResponse(file="f", bytes=120, chunk_bytes=32)
    contents.write_to(shard.tensors)
    return shard


def test_contents_are_read_as_they_were_described():
    found = [(key, form.dtype, form.shape, part) for key, form, part in read_contents(described())]
    assert found == [
        ("a", dtypes.float32, (4, 3), Part(WHOLE, "f", 0, 48, (1, 2), 32)),
        ("b", dtypes.float32, (4, 3), Part(UPPER, "f", 48, 24, (), 32, record=7)),
        ("c", dtypes.float32, (4, 3), Part(WHOLE, "f", 72, 48, (3,), 32)),
    ]


def test_what_tensors_have_in_common_is_said_once():
    assert len(described().tensors.forms) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.key.append("d"), "differ in length"),
        (lambda t: t.form.pop(), "differ in length"),
        (lambda t: t.record.pop(), "differ in length"),
        (lambda t: t.checksums.append(4), "differ in length"),
        (lambda t: t.checksum_count.append(0), "differ in length"),
        (lambda t: t.form.__setitem__(0, 2), "has 2 forms, not 3"),
        (lambda t: t.bytes.__setitem__(2, 49), "c would be behind its end"),
        (lambda t: t.offset.__setitem__(2, (1 << 64) - 1), "c would be behind its end"),
        (lambda t: setattr(t.forms[0], "dtype", 99), "99"),
        (lambda t: setattr(t.forms[0].shape.dim[0], "size", -4), r"shape \[-4, 3\]"),
        (lambda t: t.forms[1].slice.offset.__setitem__(0, 3), r"part \[3:5,0:3\]"),
        (lambda t: [t.forms[0].shape.dim.add(size=1) for _ in range(40)], "the part"),
    ],
)
def test_contents_that_cannot_be_are_refused(change, reason):
    shard = described()
    change(shard.tensors)
    with pytest.raises(InvalidArgumentError, match=f"f: what a task says.*{reason}"):
        list(read_contents(shard))


def test_chunks_without_bytes_are_refused():
    shard = described()
    shard.chunk_bytes = 0
    with pytest.raises(InvalidArgumentError, match="its chunks have no bytes"):
        list(read_contents(shard))


def shard_of(file, tensors, chunk_bytes=32) -> messages.WriteShardResponse:
    """What a task says of a file of these tensors: names, types and shapes."""
    contents = Contents()
    end = 0
    for number, (key, dtype, shape) in enumerate(tensors):
        nbytes = dtype.size * math.prod(shape)
        contents.add(key, dtype, shape, Box.whole(shape), end, nbytes)
        contents.checksums[-1] = range(number, number - (-nbytes // chunk_bytes))
        end += nbytes
    shard = messages.WriteShardResponse(file=file, bytes=end, chunk_bytes=chunk_bytes)
    contents.write_to(shard.tensors)
    return shard


SHARDS = [
    shard_of(
        "f", [("b", dtypes.float32, (30,)), ("d", dtypes.float32, (2,)), ("c", dtypes.int8, ())]
    ),
    shard_of("g", []),
    shard_of("h", [("e", dtypes.int8, (0,)), ("a", dtypes.float32, (2,))]),
]


def test_columns_of_several_files_say_what_objects_would():
    merged = merge_shards(Layout.SAFETENSORS, SHARDS).tensors
    assert isinstance(merged, Tensors)
    assert list(merged) == ["a", "b", "c", "d", "e"]
    found = {key: (part, form) for shard in SHARDS for key, form, part in read_contents(shard)}
    for key, tensor in merged.items():
        part, form = found[key]
        assert tensor == (form.dtype, form.shape, (part,))


def test_checksums_of_columns_are_written_in_the_order_of_the_names():
    rows = merge_shards(Layout.SAFETENSORS, SHARDS).tensors.rows
    assert rows.checksums_in_order().tolist() == [1, 0, 1, 2, 3, 2, 1]


def test_checksums_of_other_bytes_than_a_tensor_has_are_refused():
    shard = shard_of("f", [("a", dtypes.float32, (30,)), ("b", dtypes.float32, (2,))])
    shard.tensors.checksum_count[:] = [3, 2]
    with pytest.raises(InvalidArgumentError, match=r"f: .*a would have 3 checksums"):
        merge_shards(Layout.SAFETENSORS, [shard])


def test_files_with_chunks_of_different_sizes_are_refused():
    tensors = [("a", dtypes.float32, (2,))]
    with pytest.raises(InvalidArgumentError, match=r"chunks of \[32, 64\] bytes"):
        merge_shards(Layout.SAFETENSORS, [shard_of("f", tensors), shard_of("g", tensors, 64)])
