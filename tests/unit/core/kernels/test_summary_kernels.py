"""Summaries: tags and values that fit, and the buckets of histograms."""

import sys

import numpy as np
import pytest

from paramserve_core.errors import InvalidArgumentError
from paramserve_core.kernels import KernelNode, find_kernel
from paramserve_core.kernels.summary import histogram
from paramserve_protos.v1.summary_pb2 import Summary

LARGEST = sys.float_info.max


def text(value):
    return np.array(value, np.object_)


def run(op, *inputs):
    node = KernelNode(name="s", op=op, attrs={}, input_dtypes=(), output_dtypes=())
    encoded = find_kernel(op).function(node, *inputs)
    assert encoded.shape == ()
    return Summary.FromString(encoded.item())


def test_scalars_are_paired_with_tags():
    summary = run("ScalarSummary", text([b"a", b"b/c"]), np.array([1, 2], np.int64))
    assert [(v.tag, v.simple_value) for v in summary.value] == [("a", 1.0), ("b/c", 2.0)]


def test_scalars_of_another_shape_than_the_tags_are_refused():
    with pytest.raises(InvalidArgumentError, match=r"not the same shape: \[\] != \[1\] \(tag 'a'"):
        run("ScalarSummary", text(b"a"), np.ones(1, np.float32))


@pytest.mark.parametrize("op", ["ScalarSummary", "HistogramSummary"])
def test_a_tag_that_is_no_text_is_refused(op):
    with pytest.raises(InvalidArgumentError, match="not UTF-8"):
        run(op, text(b"\xff"), np.array(1.0, np.float32))


def test_merged_summaries_have_all_values_once():
    a = run("ScalarSummary", text(b"a"), np.array(1.0)).SerializeToString()
    b = run("ScalarSummary", text(b"b"), np.array(2.0)).SerializeToString()
    merged = run("MergeSummary", text(a), text([b, b""]))
    assert [v.tag for v in merged.value] == ["a", "b"]
    with pytest.raises(InvalidArgumentError, match="Duplicate tag a found"):
        run("MergeSummary", text(a), text(a))
    with pytest.raises(InvalidArgumentError, match="no encoded Summary"):
        run("MergeSummary", text(b"\xff\xff"))


def test_a_histogram_writes_one_empty_bucket_between_filled_ones():
    found = histogram(np.array([1.0, 2.0, 2.05, -3.0]), "h")
    assert list(found.bucket) == [0, 1, 0, 1, 0, 2, 0]
    limits = list(found.bucket_limit)
    assert limits == sorted(limits)
    assert limits[-1] == LARGEST
    assert limits[0] <= -3.0 < limits[1]
    assert (found.min, found.max, found.num) == (-3.0, 2.05, 4)
    assert found.sum == pytest.approx(2.05)
    assert found.sum_squares == pytest.approx(1 + 4 + 2.05**2 + 9)


@pytest.mark.parametrize("value", [LARGEST, -LARGEST, 1e25, -1e25, 1e-30, -1e-30, 0.0])
def test_every_finite_value_has_a_bucket(value):
    found = histogram(np.array([value]), "h")
    assert sum(found.bucket) == 1
    position = list(found.bucket).index(1)
    assert value < found.bucket_limit[position] or value == LARGEST
    assert position == 0 or found.bucket_limit[position - 1] <= value


def test_a_histogram_of_nothing_has_an_empty_bucket():
    found = histogram(np.empty((0, 3), np.float32), "h")
    assert list(found.bucket) == [0]
    assert list(found.bucket_limit) == [LARGEST]
    assert (found.num, found.min, found.max) == (0, LARGEST, -LARGEST)


def test_large_arrays_count_as_small_ones_do():
    values = np.random.default_rng(1).normal(size=600_000).astype(np.float32)
    found = histogram(values, "h")
    assert sum(found.bucket) == found.num == values.size
    assert found.sum == pytest.approx(float(values.sum(dtype=np.float64)))


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "Nan"), (np.inf, "Infinity")])
def test_a_histogram_of_what_is_not_finite_is_refused(value, kind):
    with pytest.raises(InvalidArgumentError, match=f"{kind} in summary histogram for: weights"):
        run("HistogramSummary", text(b"weights"), np.array([1.0, value]))


def test_the_tag_of_a_histogram_is_a_scalar():
    with pytest.raises(InvalidArgumentError, match=r"tag must be a scalar, its shape is \[1\]"):
        run("HistogramSummary", text([b"h"]), np.ones(2))
