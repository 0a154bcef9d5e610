"""Summaries beside TensorFlow's, and event files that each reads of the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernel_driver
from kernel_driver import few_examples, run, run_oracle, shapes, tensors
from paramserve._framework.graph import Graph
from paramserve._ops.array import constant
from paramserve._summary.event_file import summary_iterator
from paramserve._summary.writer import FileWriter
from paramserve_core import dtypes
from paramserve_protos.v1.summary_pb2 import Summary

pytestmark = [pytest.mark.oracle, pytest.mark.slow]


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


def both(tf, op, *inputs, **attrs):
    (ours,) = run(op, *inputs, **attrs)
    (theirs,) = run_oracle(tf, op, *inputs, **attrs)
    return Summary.FromString(ours.item()), Summary.FromString(theirs.item())


TYPES = [
    dtypes.float32,
    dtypes.float64,
    dtypes.bfloat16,
    dtypes.float16,
    dtypes.int64,
    dtypes.uint8,
]


@few_examples(60)
@given(st.sampled_from(TYPES).flatmap(lambda t: st.tuples(st.just(t), tensors(t, shapes()))))
def test_a_histogram_has_tensorflows_buckets(tf, case):
    dtype, values = case
    values = np.where(np.isfinite(values.astype(np.float64)), values, np.zeros((), values.dtype))
    ours, theirs = both(tf, "HistogramSummary", b"h", values, T=dtype)
    mine, other = ours.value[0].histo, theirs.value[0].histo
    assert list(mine.bucket_limit) == list(other.bucket_limit)
    assert list(mine.bucket) == list(other.bucket)
    assert (mine.min, mine.max, mine.num) == (other.min, other.max, other.num)
    assert mine.sum == pytest.approx(other.sum, rel=1e-12, abs=1e-12)
    assert mine.sum_squares == pytest.approx(other.sum_squares, rel=1e-12)


@few_examples(60)
@given(st.floats(1e-14, 1e22), st.sampled_from([-1, 1]))
def test_the_limits_of_buckets_are_tensorflows(tf, size, sign):
    ours, theirs = both(tf, "HistogramSummary", b"h", np.array([sign * size]), T=dtypes.float64)
    assert list(ours.value[0].histo.bucket_limit) == list(theirs.value[0].histo.bucket_limit)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.name)
def test_scalars_are_tensorflows(tf, dtype):
    tags = np.array([b"a", b"b"], object)
    values = np.array([1, 3]).astype(dtype.as_numpy_dtype)
    ours, theirs = both(tf, "ScalarSummary", tags, values, T=dtype)
    assert ours == theirs


def test_merged_summaries_are_tensorflows(tf):
    (a,) = run("ScalarSummary", b"a", np.float32(1), T=dtypes.float32)
    (b,) = run("HistogramSummary", b"b", np.ones(3, np.float32), T=dtypes.float32)
    ours, theirs = both(tf, "MergeSummary", [a, b], N=2)
    assert ours == theirs


def test_tensorflow_reads_our_event_files(tf, tmp_path):
    graph = Graph()
    with graph.as_default():
        constant([1.0, 2.0], name="c")
    (encoded,) = run("ScalarSummary", b"loss", np.float32(0.5), T=dtypes.float32)
    with FileWriter(str(tmp_path), graph) as writer:
        writer.add_summary(encoded.item(), 7)
    (path,) = tmp_path.iterdir()
    written = list(tf.compat.v1.train.summary_iterator(str(path)))
    version, with_graph, with_collections, with_summary = written
    assert version.file_version == "brain.Event:2"
    found = tf.compat.v1.GraphDef.FromString(with_graph.graph_def)
    assert [node.name for node in found.node] == ["c"]
    whole = tf.compat.v1.MetaGraphDef.FromString(with_collections.meta_graph_def)
    assert [op.name for op in whole.meta_info_def.stripped_op_list.op] == ["Const"]
    assert whole.graph_def == found
    assert with_summary.step == 7
    assert with_summary.summary.value[0].tag == "loss"
    assert with_summary.summary.value[0].simple_value == 0.5


def test_we_read_tensorflows_event_files(tf, tmp_path):
    with tf.Graph().as_default():
        writer = tf.compat.v1.summary.FileWriter(str(tmp_path))
        summary = tf.compat.v1.Summary()
        summary.value.add(tag="loss", simple_value=0.5)
        writer.add_summary(summary, 7)
        writer.close()
    (path,) = tmp_path.iterdir()
    version, event = summary_iterator(path)
    assert version.file_version == "brain.Event:2"
    assert (event.step, event.summary.value[0].tag) == (7, "loss")
