"""The files' formats: what is written is read, and what is malformed is refused with a reason."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from paramserve_core import dtypes
from paramserve_core.checkpoint.columns import ABSENT
from paramserve_core.checkpoint.index import (
    CHUNK_BYTES,
    Index,
    Layout,
    Part,
    StoredFile,
    StoredTensor,
)
from paramserve_core.checkpoint.index_file import decode_index, encode_index
from paramserve_core.checkpoint.json_fields import MalformedError
from paramserve_core.checkpoint.safetensors import (
    HeaderEntry,
    encode_header,
)
from paramserve_core.checkpoint.slices import Box, cover, overlap
from paramserve_core.checkpoint.stored import pack_strings, unpack_strings

SAVE = "0123456789abcdef"
FILE = f"m.{SAVE}-00000-of-00001.safetensors"


def an_index(**changes) -> Index:
    parts = [
        Part(
            box=Box((begin, 0), (2, 3)),
            file=FILE,
            offset=128 + 24 * i,
            nbytes=24,
            checksums=(i,),
            chunk_bytes=CHUNK_BYTES,
        )
        for i, begin in enumerate((0, 2))
    ]
    fields = {
        "layout": Layout.SAFETENSORS,
        "tensors": {
            "table": StoredTensor(dtypes.float32, (4, 3), tuple(parts)),
            "none": StoredTensor(
                dtypes.int8,
                (0,),
                (
                    Part(
                        box=Box((0,), (0,)),
                        file=FILE,
                        offset=176,
                        nbytes=0,
                        checksums=(),
                        chunk_bytes=CHUNK_BYTES,
                    ),
                ),
            ),
        },
        "files": {FILE: StoredFile(nbytes=176, header_bytes=128, header_checksum=9)},
        "save_id": SAVE,
        "generation": 3,
        "step": 40,
        "graph_hash": "ab12",
        "meta_graph": "m.meta",
        "writer": "test 1",
    }
    return Index(**fields | changes)


def test_index_is_read_as_it_was_written():
    index = an_index()
    assert decode_index(encode_index(index)) == index
    index = an_index(step=None, graph_hash="", meta_graph="")
    assert decode_index(encode_index(index)) == index


def test_index_has_the_hugging_face_layout():
    members = json.loads(encode_index(an_index()))
    assert members["metadata"]["total_size"] == 48
    assert members["weight_map"] == {
        "table[0:2,0:3]": FILE,
        "table[2:4,0:3]": FILE,
        "none": FILE,
    }


def sealed(members) -> bytes:
    """An index file of these members, with the checksum that it should have."""
    body = json.dumps({**members, "checksum": "0" * 8}, indent=1).encode()[: -len('"00000000"\n}')]
    return body + f'"{zlib.crc32(body):08x}"\n}}'.encode()


NONE = {"dtype": "int8", "shape": [0], "bytes": 0}


def edits():
    """Changes to a right index, each of which makes it wrong, and what the error says."""
    form = ("tensors", "forms", 0)
    return [
        (("metadata", "format"), "other", "its format is not"),
        (("metadata", "format_version"), 2, "an integer from 1 to 1"),
        (("metadata", "chunk_bytes"), 0, "'chunk_bytes' of 'metadata'"),
        (("metadata", "chunk_bytes"), 8, "a string of 48 hexadecimal digits"),
        (("metadata", "generation"), "1", "'generation' of 'metadata'.*should be an integer"),
        (("metadata", "graph_hash"), "zz", "is not in hexadecimal digits"),
        (("metadata", "graph_hash"), "ab 1", "is not in hexadecimal digits"),
        (("metadata",), [], "'metadata' of the file should be an object"),
        (("files", FILE, "bytes"), 175, "is not within the file"),
        (("files", FILE, "header_bytes"), 200, "'header_bytes'"),
        (("files", FILE, "header_checksum"), "123", "8 hexadecimal digits"),
        (("files", FILE, "surprise"), 1, "unknown member 'surprise'"),
        (("files",), {}, "which is not listed"),
        (("files", "../m.0123456789abcdef-00000-of-00001.safetensors"), {}, "is no file"),
        (("files", "m.aaaaaaaaaaaaaaaa-00000-of-00001.safetensors"), {}, "is of another save"),
        (("weight_map", "table[0:2,0:3]"), 3, "'table.*' of 'weight_map'.*should be a string"),
        (("weight_map", "more"), FILE, "'form' of 'tensors'.*a list of 4 integers"),
        (("weight_map",), {}, "'form' of 'tensors'.*a list of 0 integers"),
        ((*form, "dtype"), "float99", "float99"),
        ((*form, "dtype"), "float32_ref", "float32_ref, which is not stored"),
        ((*form, "dtype"), "float64", "its elements take 48"),
        ((*form, "shape"), [5, 3], "are not the whole tensor"),
        ((*form, "shape"), [-4, 3], "should be an integer from 0"),
        ((*form, "shape"), [1] * 33, "at most 32"),
        ((*form, "shape"), [1 << 62, 0], "which no array can have"),
        ((*form, "shape"), [0, 1 << 32, 1 << 32], "which no array can have"),
        (("weight_map", "\ud800"), FILE, "a name with half a character"),
        ((*form, "begin"), [1, 0], "no name of the part"),
        ((*form, "begin"), [3, 0], "lies outside of a tensor"),
        ((*form, "begin"), [0], "lies outside of a tensor"),
        (("tensors", "forms", 2, "size"), [0], "no member 'begin'"),
        (("tensors", "forms", 2), {**NONE, "begin": [0], "size": [0]}, "is the whole tensor"),
        ((*form, "size"), None, "'size' of an item of 'forms'"),
        ((*form, "bytes"), 20, "its elements take 24"),
        ((*form, "bytes"), True, "should be an integer"),
        ((*form, "surprise"), 1, "unknown member"),
        (("tensors", "form"), [0, 1, 3], "a list of 3 integers from 0 to 2"),
        (("tensors", "form"), [0, 1, -1], "a list of 3 integers from 0 to 2"),
        (("tensors", "form"), [0, 1, True], "a list of 3 integers"),
        (("tensors", "form"), [0, 1, [2]], "a list of 3 integers"),
        (("tensors", "form"), [0, 1], "a list of 3 integers"),
        (("tensors", "form"), [0, 0, 2], "no name of the part"),
        (("tensors", "offset"), [8, 152, 176], "'table.0:2,0:3.' is not within the file"),
        (("tensors", "offset"), [128, 1 << 62, 176], "'table.2:4,0:3.' is not within the file"),
        (("tensors", "offset"), [128, 1 << 63, 176], "a list of 3 integers"),
        (("tensors", "offset"), [128, 152.0, 176], "a list of 3 integers"),
        (("tensors", "offset"), [128, 151, 176], "'table.*' and 'table.*' have bytes in common"),
        (("tensors", "offset"), [152, 129, 176], "'table.*' and 'table.*' have bytes in common"),
        (("tensors", "checksums"), "", "a string of 16 hexadecimal digits"),
        (("tensors", "checksums"), "0000000000000G01", "a string of 16 hexadecimal digits"),
        (("tensors", "checksums"), "00000000 0000001", "a string of 16 hexadecimal digits"),
        (("tensors", "checksums"), ["00000000", "00000001"], "a string of 16 hexadecimal digits"),
        (("tensors", "surprise"), 1, "unknown member"),
        (("surprise",), 1, "unknown member 'surprise'"),
    ]


@pytest.mark.parametrize(("where", "value", "text"), edits())
def test_malformed_index_is_refused_with_its_reason(where, value, text):
    members = json.loads(encode_index(an_index()))
    del members["checksum"]
    inner = members
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = value
    with pytest.raises(MalformedError, match=text):
        decode_index(sealed(members))


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[" * 100_000, sealed({}), b"\xff" * 50])
def test_what_is_no_index_is_refused(content):
    with pytest.raises(MalformedError):
        decode_index(content)


def resealed(content: bytes, old: str, new: str) -> bytes:
    """An index file with some of its text changed, and the checksum that it should have."""
    text = content.decode()
    assert text.count(old) == 1
    body = text.replace(old, new).encode()[: -len('"00000000"\n}')]
    return body + f'"{zlib.crc32(body):08x}"\n}}'.encode()


def test_name_twice_in_an_index_is_refused():
    content = resealed(encode_index(an_index()), '"none": ', '"table[0:2,0:3]": ')
    with pytest.raises(MalformedError, match="one name twice"):
        decode_index(content)


def test_every_flipped_bit_of_an_index_is_noticed():
    content = encode_index(an_index())
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MalformedError):
            decode_index(bytes(damaged))


@pytest.mark.parametrize(
    ("name", "other"), [("table[0:2,0:3]", "chair[0:2,0:3]"), ("none", "table")]
)
def test_parts_that_are_not_just_one_tensor_are_refused(name, other):
    content = resealed(encode_index(an_index()), f'"{name}": ', f'"{other}": ')
    with pytest.raises(MalformedError, match="are not the whole tensor"):
        decode_index(content)


def test_parts_of_tensors_of_two_types_are_refused():
    content = resealed(
        encode_index(an_index()),
        '"float32", "shape": [4, 3], "bytes": 24, "begin": [2',
        '"int32", "shape": [4, 3], "bytes": 24, "begin": [2',
    )
    with pytest.raises(MalformedError, match="the parts of 'table' are not the whole tensor"):
        decode_index(content)


def test_what_a_form_claims_is_compared_before_memory_is_taken_for_it():
    members = json.loads(encode_index(an_index()))
    del members["checksum"]
    form = {"dtype": "string", "shape": [], "bytes": (1 << 63) - 1}
    members["tensors"]["forms"] = [form]
    members["tensors"]["form"] = [0, 0, 0]
    members["metadata"]["chunk_bytes"] = 1
    with pytest.raises(MalformedError, match="'checksums' of 'tensors'"):
        decode_index(sealed(members))


def small_tensors(names, **changes) -> Index:
    """An index of tensors that are all alike."""
    box = Box.whole((6,))
    parts = [
        Part(box, FILE, 128 + 24 * i, 24, (i * 0x1234567,), CHUNK_BYTES)
        for i, _ in enumerate(names)
    ]
    return an_index(
        tensors={
            name: StoredTensor(dtypes.float32, (6,), (part,))
            for name, part in zip(names, parts, strict=True)
        },
        files={FILE: StoredFile(nbytes=128 + 24 * len(parts), header_bytes=128, header_checksum=9)},
        **changes,
    )


@settings(deadline=None)
@given(st.lists(st.text(), unique=True, max_size=8), st.booleans())
def test_index_says_the_same_however_it_is_laid_out(names, has_parts):
    names = [name for name in names if not any("\ud800" <= char <= "\udfff" for char in name)]
    index = small_tensors(names)
    if has_parts:
        table, none = an_index().tensors.values()
        parts = [part._replace(offset=part.offset + 1024) for part in table.parts]
        others = {"table": table._replace(parts=tuple(parts)), "none": none}
        index = replace(index, tensors={**index.tensors, **others, "last": none})
        index = replace(index, files={FILE: StoredFile(nbytes=1 << 20, header_bytes=128)})
    content = encode_index(index)
    members = json.loads(content)
    del members["checksum"]
    assert decode_index(content) == index
    assert decode_index(sealed(members)) == index


def test_tensors_become_objects_when_they_are_asked_for():
    tensors = decode_index(encode_index(an_index())).tensors
    assert len(tensors) == 2
    assert list(tensors) == ["none", "table"]
    assert "table" in tensors
    assert "table[0:2,0:3]" not in tensors
    assert tensors.find_rows(["none", "table", "no"]).tolist() == [2, ABSENT, ABSENT]
    with pytest.raises(KeyError):
        tensors["table[0:2,0:3]"]


# ----- safetensors


ENTRIES = [
    HeaderEntry(name="a", type="F32", shape=(2, 2), offset=0, nbytes=16),
    HeaderEntry(name="größe/w", type="U8", shape=(3,), offset=16, nbytes=3),
    HeaderEntry(name="empty", type="I64", shape=(0, 5), offset=19, nbytes=0),
]


def test_header_is_what_the_formats_own_reader_expects(tmp_path):
    header = encode_header(ENTRIES, {"format": "paramserve"})
    assert len(header) % 64 == 0
    path = tmp_path / "x.safetensors"
    path.write_bytes(header + np.arange(4, dtype=np.float32).tobytes() + b"abc")
    loaded = safetensors.numpy.load_file(path)
    assert loaded["a"].tolist() == [[0, 1], [2, 3]]
    assert loaded["größe/w"].tobytes() == b"abc"
    assert loaded["empty"].shape == (0, 5)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=20))
def test_strings_come_back(strings):
    array = np.empty(len(strings), object)
    array[:] = strings
    assert unpack_strings(pack_strings(array), (len(strings),)).tolist() == strings


@given(content=st.binary(max_size=60), count=st.integers(0, 20))
def test_any_bytes_are_strings_or_refused(content, count):
    try:
        strings = unpack_strings(content, (count,))
    except MalformedError:
        return
    assert 4 * count + sum(map(len, strings)) == len(content)


# ----- boxes


@settings(deadline=None)
@given(st.data())
def test_boxes_cover_a_tensor_exactly_if_every_element_is_in_one(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    boxes = []
    for _ in range(data.draw(st.integers(1, 4))):
        begin = [data.draw(st.integers(0, size - 1)) for size in shape]
        sizes = [data.draw(st.integers(1, s - b)) for s, b in zip(shape, begin, strict=True)]
        boxes.append(Box(tuple(begin), tuple(sizes)))
    count = np.zeros(shape, int)
    for box in boxes:
        count[box.within(Box.whole(shape))] += 1
    assert cover(boxes, shape) == bool((count == 1).all())
    assert overlap(boxes) == bool((count > 1).any())
