"""The checksum of the own format: one number, whatever computes it."""

from __future__ import annotations

import importlib
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserve_core.checkpoint import checksum


@given(st.binary(max_size=5000), st.binary(max_size=5000))
def test_the_checksum_is_zlibs_and_goes_on_from_one_part_to_the_next(first, second):
    whole = checksum.crc32(first + second)
    assert whole == zlib.crc32(first + second)
    assert checksum.crc32(memoryview(second), checksum.crc32(first)) == whole


def test_without_the_fast_package_zlib_computes_it(monkeypatch):
    try:
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, "isal.isal_zlib", None)
            importlib.reload(checksum)
            assert checksum.crc32 is zlib.crc32
    finally:
        importlib.reload(checksum)


def test_the_fast_package_is_used_where_it_is_installed():
    isal_zlib = pytest.importorskip("isal.isal_zlib")
    assert checksum.crc32 is isal_zlib.crc32
