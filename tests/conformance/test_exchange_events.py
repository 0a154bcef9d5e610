"""What a training wrote for TensorBoard: each side reads the other's event files to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kernel_driver
import paramserve as ps

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

STEPS = 4


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow().compat.v1


@pytest.fixture(params=["from here to TensorFlow", "from TensorFlow to here"])
def sides(request, tf):
    """The module that writes, and the module that reads."""
    tf.disable_resource_variables()
    return (ps, tf) if request.param == "from here to TensorFlow" else (tf, ps)


def log_training(ns: Any, folder: Path) -> tuple[Path, Any, list[float], list[Any]]:
    """Trains a model; answers its event file, its graph, and what it logged."""
    losses, weights = [], []
    with ns.Graph().as_default() as graph:
        w = ns.Variable(np.linspace(-2, 3, 12, dtype=np.float32), name="w")
        loss = ns.reduce_sum(ns.square(w), name="loss")
        train = ns.train.GradientDescentOptimizer(0.1).minimize(loss)
        ns.summary.scalar("loss_of_w", loss)
        ns.summary.histogram("values_of_w", w)
        summaries = ns.summary.merge_all()
        init = ns.global_variables_initializer()
        writer = ns.summary.FileWriter(str(folder), graph)
        with ns.Session() as session:
            session.run(init)
            for step in range(STEPS):
                session.run(train)
                packed, value, elements = session.run([summaries, loss, w])
                writer.add_summary(packed, step)
                losses.append(float(value))
                weights.append(elements)
        writer.close()
    (path,) = folder.iterdir()
    return path, graph, losses, weights


def test_a_training_is_read_as_it_was_logged(sides, tmp_path):
    source, target = sides
    path, _, losses, weights = log_training(source, tmp_path)
    events = [e for e in target.train.summary_iterator(str(path)) if e.HasField("summary")]
    assert [event.step for event in events] == list(range(STEPS))
    for event, loss, elements in zip(events, losses, weights, strict=True):
        scalar, histogram = event.summary.value
        assert (scalar.tag, histogram.tag) == ("loss_of_w", "values_of_w")
        assert scalar.simple_value == loss
        found, values = histogram.histo, elements.astype(np.float64)
        assert (found.num, found.min, found.max) == (12, values.min(), values.max())
        assert found.sum_squares == pytest.approx(loss, rel=1e-5)
        limits = [-np.inf, *found.bucket_limit]
        for low, high, count in zip(limits[:-1], limits[1:], found.bucket, strict=True):
            assert count == np.sum((values >= low) & (values < high))


def test_the_graph_that_was_logged_runs_on_the_other_side(sides, tmp_path):
    source, target = sides
    path, graph, losses, _ = log_training(source, tmp_path)
    (logged,) = [
        event.graph_def
        for event in target.train.summary_iterator(str(path))
        if event.HasField("graph_def")
    ]
    definition = target.GraphDef.FromString(logged)
    wanted = {node.name: node.op for node in graph.as_graph_def().node}
    assert {node.name: node.op for node in definition.node} == wanted
    with target.Graph().as_default(), target.Session() as session:
        target.import_graph_def(definition, name="")
        session.run("init")
        again = []
        for _ in range(STEPS):
            session.run("GradientDescent")
            again.append(float(session.run("loss:0")))
    assert again == pytest.approx(losses, rel=1e-6)


def test_every_record_has_the_checksums_that_the_other_side_wants(sides, tmp_path, tf):
    source, target = sides
    path, *_ = log_training(source, tmp_path)
    content = path.read_bytes()
    for at in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[at] ^= 16
        path.write_bytes(damaged)
        with pytest.raises((ps.OpError, tf.OpError)):
            list(target.train.summary_iterator(str(path)))
    path.write_bytes(content)
    assert len(list(target.train.summary_iterator(str(path)))) >= 2 + STEPS


def test_the_same_training_makes_the_same_summaries(tf, tmp_path):
    tf.disable_resource_variables()
    found = []
    for name, ns in (("ours", ps), ("theirs", tf)):
        (tmp_path / name).mkdir()
        path, *_ = log_training(ns, tmp_path / name)
        events = ps.train.summary_iterator(str(path))
        found.append([e.summary for e in events if e.HasField("summary")])
    for ours, theirs in zip(*found, strict=True):
        for mine, other in zip(ours.value, theirs.value, strict=True):
            assert (mine.tag, mine.metadata) == (other.tag, other.metadata)
            assert mine.simple_value == pytest.approx(other.simple_value, rel=1e-6)
            assert list(mine.histo.bucket) == list(other.histo.bucket)
            assert list(mine.histo.bucket_limit) == list(other.histo.bucket_limit)


def test_tensorboard_shows_the_curves_and_the_graph(sides, tmp_path):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="no TensorBoard"
    )
    source, _ = sides
    _, graph, losses, _ = log_training(source, tmp_path)
    board = accumulators.EventAccumulator(str(tmp_path), size_guidance={"histograms": 0})
    board.Reload()
    assert [(s.step, s.value) for s in board.Scalars("loss_of_w")] == list(enumerate(losses))
    assert [h.histogram_value.num for h in board.Histograms("values_of_w")] == [12] * STEPS
    shown = {node.name: node.op for node in board.Graph().node}
    assert shown == {op.name: op.type for op in graph.get_operations()}
