"""TensorFlow's files: tables, the index of a bundle, and blocks that Snappy has packed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramserve_core import dtypes
from paramserve_core.checkpoint import snappy
from paramserve_core.checkpoint.index import (
    Index,
    Layout,
    Part,
    StoredFile,
    StoredTensor,
)
from paramserve_core.checkpoint.json_fields import MalformedError
from paramserve_core.checkpoint.slices import Box, extents_of_box
from paramserve_core.checkpoint.table import data_blocks, open_block, records, write_table
from paramserve_core.checkpoint.tf_bundle import decode_bundle_index, encode_bundle_index, slice_key

# ----- tables and bundles


@settings(deadline=None)
@given(st.dictionaries(st.binary(max_size=30), st.binary(max_size=200), max_size=60))
def test_table_is_read_as_it_was_written(items):
    content = write_table(sorted(items.items()))
    assert dict(read_table(content)) == items


def test_table_of_many_blocks_is_read_as_it_was_written():
    items = [(f"{i:06}".encode(), bytes(1000)) for i in range(1000)]
    content = write_table(items)
    assert list(read_table(content)) == items
    assert len(data_blocks(reader(content), len(content))) > 1


def reader(content):
    return lambda offset, nbytes: content[offset : offset + nbytes]


def read_table(content):
    for block in data_blocks(reader(content), len(content)):
        yield from records(open_block(content[block.offset : block.offset + block.nbytes + 5]))


@settings(deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_a_table_or_refused(content):
    footer = write_table([])[-48:]
    for candidate in (content, content + footer, content + footer[-8:]):
        with pytest.raises(MalformedError):
            list(read_table(candidate))


def test_every_flipped_bit_of_a_table_is_noticed_or_harmless():
    items = [(b"", b"header"), (b"key", b"value"), (b"kez", b"")]
    content = write_table(items)
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = list(read_table(bytes(damaged)))
        except MalformedError:
            continue
        assert found == items  # The padding of the footer and the block of nothing.


def test_bundle_index_is_read_as_it_was_written():
    file = "m.data-00000-of-00001"
    place = {"file": file, "chunk_bytes": 24}
    tensors = {
        "part/ed\x00\xff": StoredTensor(
            dtypes.float32,
            (4, 3),
            (
                Part(box=Box((0, 0), (2, 3)), offset=0, nbytes=24, checksums=(1,), **place),
                Part(box=Box((2, 0), (2, 3)), offset=24, nbytes=24, checksums=(2,), **place),
            ),
        ),
        "scalar": StoredTensor(
            dtypes.float64,
            (),
            (Part(box=Box((), ()), offset=48, nbytes=8, checksums=(3,), file=file, chunk_bytes=8),),
        ),
    }
    index = Index(layout=Layout.TENSORFLOW_V2, tensors=tensors, files={file: StoredFile(nbytes=56)})
    assert decode_bundle_index(encode_bundle_index(index), "m") == index


def test_bundle_of_nothing_in_a_shape_that_no_array_has_is_refused():
    file = "m.data-00000-of-00001"
    part = Part(Box((0, 0, 0), (0, 0, 0)), file, 0, 0, (0,), 1)
    tensor = StoredTensor(dtypes.float32, (0, 1 << 62, 1 << 62), (part,))
    index = Index(
        layout=Layout.TENSORFLOW_V2, tensors={"w": tensor}, files={file: StoredFile(nbytes=0)}
    )
    with pytest.raises(MalformedError, match=r"'w' has the shape .*, which no array can have"):
        decode_bundle_index(encode_bundle_index(index), "m")


@pytest.mark.parametrize(
    ("name", "box", "shape", "key"),
    [
        ("w", Box((0,), (4,)), (4,), b"\0w\0\1\1\1\x80\x7f"),
        ("w", Box((2,), (2,)), (4,), b"\0w\0\1\1\1\x82\x82"),
        ("a\0b", Box((64,), (100,)), (1000,), b"\0a\0\xffb\0\1\1\1\xc0\x40\xc0\x64"),
    ],
)
def test_key_of_a_slice(name, box, shape, key):
    assert slice_key(name, extents_of_box(box, shape)) == key


# ----- snappy


@pytest.mark.parametrize(
    ("compressed", "plain"),
    [
        (b"\x00", b""),
        (b"\x05\x10hello", b"hello"),
        (b"\x0a\x00a\x15\x01\x0cbcd", None),
        (b"\x08\x0cabcd\x0e\x04\x00"[:8], None),
        (b"\x08\x0cabcd\x01\x04", b"abcdabcd"),
        (b"\x08\x0cabcd\x0e\x04\x00", b"abcdabcd"),
        (b"\x08\x0cabcd\x0f\x04\x00\x00\x00", b"abcdabcd"),
        (b"\x09\x00a\x1e\x01\x00", b"aaaaaaaaa"),
        (b"\x3d\xf0\x3c" + b"x" * 61, b"x" * 61),
        (b"\x05\x10hell", None),
        (b"\x05\x00a\x01\x02", None),
        (b"\x05\x00a\x01\x00", None),
        (b"\xff\xff\xff\xff\x0f", None),
        (b"\xff\xff\xff\xff\xff\xff", None),
        (b"", None),
    ],
)
def test_snappy_block(compressed, plain):
    if plain is None:
        with pytest.raises(MalformedError, match="compressed block"):
            snappy.decompress(compressed, 1 << 20)
    else:
        assert snappy.decompress(compressed, 1 << 20) == plain


@given(st.binary(max_size=100))
def test_any_bytes_are_a_snappy_block_or_refused(content):
    try:
        plain = snappy.decompress(content, 1000)
    except MalformedError:
        return
    assert len(plain) <= 1000
