"""A model that was built and trained on one side goes on training on the other, equally.

Each test is run both ways: a graph with its variables, optimizer, saver and collections is
exported with a TensorFlow checkpoint, imported by the other side, restored, and trained there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kernel_driver
import paramserve as ps

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

STEPS = 10
RANDOM = np.random.RandomState(0)
INPUTS = RANDOM.normal(size=(16, 4)).astype(np.float32)
WANTED = np.tanh(INPUTS @ RANDOM.normal(size=(4, 2))).astype(np.float32)
START = RANDOM.normal(size=(4, 2)).astype(np.float32) / 4
TABLE = RANDOM.normal(size=(7, 2)).astype(np.float32)
IDS = [0, 6, 3, 6, 0, 2, 0, 1, 1, 3, 0, 5, 5, 2, 6, 0]  # 4 never, others often

OPTIMIZERS = {
    "gradient descent": lambda train, step: train.GradientDescentOptimizer(0.2),
    "momentum": lambda train, step: train.MomentumOptimizer(0.1, 0.7),
    "nesterov": lambda train, step: train.MomentumOptimizer(0.1, 0.7, use_nesterov=True),
    "adagrad": lambda train, step: train.AdagradOptimizer(0.3),
    "adagrad da": lambda train, step: train.AdagradDAOptimizer(0.3, step),
    "adadelta": lambda train, step: train.AdadeltaOptimizer(2.0, 0.9, 1e-3),
    "adam": lambda train, step: train.AdamOptimizer(0.05),
    "rmsprop": lambda train, step: train.RMSPropOptimizer(0.03, momentum=0.5),
    "centered rmsprop": lambda train, step: train.RMSPropOptimizer(0.03, centered=True),
    "ftrl": lambda train, step: train.FtrlOptimizer(0.5, l1_regularization_strength=0.01),
    "proximal gradient descent": lambda train, step: train.ProximalGradientDescentOptimizer(
        0.2, l2_regularization_strength=0.01
    ),
    "proximal adagrad": lambda train, step: train.ProximalAdagradOptimizer(
        0.3, l1_regularization_strength=0.01
    ),
}


@pytest.fixture(scope="module")
def tf():
    module = kernel_driver.tensorflow().compat.v1
    module.disable_control_flow_v2()
    yield module
    module.enable_control_flow_v2()


@pytest.fixture(params=["from here to TensorFlow", "from TensorFlow to here"])
def sides(request, tf):
    """The module that builds and saves, and the module that imports and restores."""
    tf.disable_resource_variables()
    return (ps, tf) if request.param == "from here to TensorFlow" else (tf, ps)


def dense(ns: Any, step: Any) -> Any:
    """A layer."""
    weights = ns.Variable(START, name="weights")
    biases = ns.Variable([0.1, -0.1], name="biases")
    return ns.tanh(ns.matmul(ns.constant(INPUTS), weights) + biases)


def sparse(ns: Any, step: Any) -> Any:
    """Rows of a partitioned table, of which only some get a gradient."""
    table = ns.get_variable(
        "table", initializer=ns.constant(TABLE), partitioner=ns.fixed_size_partitioner(3)
    )
    return ns.nn.embedding_lookup(table, IDS, partition_strategy="div")


def conditional(ns: Any, step: Any) -> Any:
    """A layer that is another one in every second step."""
    weights = ns.Variable(START, name="weights")
    others = ns.Variable(-START, name="others")
    inputs = ns.constant(INPUTS)
    return ns.cond(
        ns.equal(step % 2, 0),
        lambda: ns.tanh(ns.matmul(inputs, weights)),
        lambda: ns.matmul(inputs, others),
    )


def convolutional(ns: Any, step: Any) -> Any:
    """A convolution and the largest of what it found."""
    images = ns.reshape(ns.constant(INPUTS), [-1, 2, 2, 1])
    kernel = ns.Variable(START.reshape(2, 2, 1, 2), name="kernel")
    biases = ns.Variable([0.1, -0.1], name="biases")
    convolved = ns.nn.bias_add(ns.nn.conv2d(images, kernel, [1, 1, 1, 1], "SAME"), biases)
    return ns.reshape(ns.nn.max_pool(convolved, [1, 2, 2, 1], [1, 2, 2, 1], "VALID"), [-1, 2])


every_model = pytest.mark.parametrize(
    "model", [dense, sparse, conditional, convolutional], ids=lambda model: model.__name__
)


def decayed(train: Any, step: Any) -> Any:
    rate = train.exponential_decay(0.3, step, 4, 0.5, staircase=True)
    return train.MomentumOptimizer(rate, momentum=0.5)


def build(ns: Any, model: Any, optimizer: Any, **saver_options: Any) -> Any:
    """A model in the default graph, with all that its training needs; answers its saver.

    The op `train` makes a step, `loss` measures, `init` initializes.
    """
    step = ns.train.get_or_create_global_step()
    loss = ns.reduce_mean(ns.square(model(ns, step) - WANTED[: len(IDS)]), name="loss")
    update = optimizer(ns.train, step).minimize(loss, global_step=step, name="update")
    averages = ns.train.ExponentialMovingAverage(0.8, step)
    with ns.control_dependencies([update]):
        averaged = averages.apply(ns.trainable_variables())
    ns.group(averaged, name="train")
    ns.variables_initializer(ns.global_variables(), name="init")
    ns.summary.scalar("measured", loss)
    ns.add_to_collection("losses", loss)
    ns.add_to_collection("ops", update)
    ns.add_to_collection("sizes", 3)
    ns.add_to_collection("labels", "two")
    return ns.train.Saver(write_version=ns.train.SaverDef.V2, **saver_options)


def new_session(ns: Any) -> Any:
    """A session on the default graph.

    TensorFlow's rewriting of graphs is off: it drops control dependencies of reads of reference
    variables, so that an average may be one of the values before the update.
    """
    config = ns.ConfigProto()
    if ns is not ps:
        config.graph_options.rewrite_options.disable_meta_optimizer = True
    return ns.Session(config=config)


def train(session: Any, steps: int = STEPS) -> list[float]:
    """The loss after each step."""
    losses = []
    for _ in range(steps):
        session.run("train")
        losses.append(float(session.run("loss:0")))
    return losses


def values(ns: Any, session: Any) -> dict[str, Any]:
    """All variables, by name."""
    return {v.op.name: session.run(v) for v in ns.global_variables()}


def assert_equal(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=1e-6, err_msg=name)


def exchange(
    source: Any, target: Any, folder: Path, model: Any, optimizer: Any, **saver_options: Any
) -> None:
    """Trains a model on one side, saves it half-way, goes on with it on both: equally."""
    with source.Graph().as_default(), new_session(source) as session:
        saver = build(source, model, optimizer, **saver_options)
        session.run("init")
        first = train(session)
        path = saver.save(session, str(folder / "model"), global_step=STEPS)
        saved = values(source, session)
        second = train(session)
        trained = values(source, session)
    assert second[-1] < first[0]
    with target.Graph().as_default(), new_session(target) as session:
        saver = target.train.import_meta_graph(f"{path}.meta")
        saver.restore(session, path)
        assert_equal(values(target, session), saved)
        np.testing.assert_allclose(train(session), second, rtol=2e-4)
        assert_equal(values(target, session), trained)
        session.run("init")
        np.testing.assert_allclose(train(session), first, rtol=2e-4)


@pytest.mark.parametrize("model", [dense, sparse], ids=lambda model: model.__name__)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_any_optimizer_goes_on_where_the_other_side_stopped(sides, tmp_path, optimizer, model):
    exchange(*sides, tmp_path, model, OPTIMIZERS[optimizer])


@every_model
@pytest.mark.parametrize(
    "options", [{}, {"sharded": True}, {"restore_sequentially": True}], ids=str
)
def test_a_rate_decays_from_where_the_other_side_stopped(sides, tmp_path, model, options):
    exchange(*sides, tmp_path, model, decayed, **options)


@every_model
@pytest.mark.parametrize("is_sharded", [False, True])
def test_a_model_on_two_servers_goes_on_in_tensorflow(tf, two_servers, tmp_path, model, is_sharded):
    setter = ps.train.replica_device_setter(cluster=two_servers.target)
    with ps.Graph().as_default(), ps.device(setter):
        saver = build(ps, model, decayed, sharded=is_sharded)
        assert {v.device for v in ps.global_variables()} == {"/job:ps/task:0", "/job:ps/task:1"}
        with two_servers.session() as session:
            session.run("init")
            train(session)
            path = saver.save(session, str(tmp_path / "model"))
            losses = train(session)
            trained = values(ps, session)
    two_servers.reset()
    with tf.Graph().as_default(), new_session(tf) as session:
        tf.train.import_meta_graph(f"{path}.meta", clear_devices=True).restore(session, path)
        np.testing.assert_allclose(train(session), losses, rtol=2e-4)
        assert_equal(values(tf, session), trained)


@every_model
def test_an_imported_model_is_trained_by_a_new_optimizer(sides, tmp_path, model):
    losses = []
    source, target = sides
    with source.Graph().as_default():
        build(source, model, decayed)
        source.train.export_meta_graph(str(tmp_path / "model.meta"))
        losses.append(_trained_by_adam(source))
    with target.Graph().as_default():
        target.train.import_meta_graph(str(tmp_path / "model.meta"))
        losses.append(_trained_by_adam(target))
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-4)
    assert losses[0][-1] < losses[0][0]


def _trained_by_adam(ns: Any) -> list[float]:
    """The losses of steps of an optimizer that is added to the default graph."""
    graph = ns.get_default_graph()
    loss = graph.get_tensor_by_name("loss:0")
    step = ns.train.AdamOptimizer(0.05).minimize(loss, name="another")
    with new_session(ns) as session:
        session.run(ns.global_variables_initializer())
        losses = []
        for _ in range(STEPS):
            session.run(step)
            losses.append(session.run(loss))
    return losses


@every_model
def test_collections_hold_the_same_on_the_other_side(sides, tmp_path, model):
    def contents(ns: Any) -> dict[str, list[str]]:
        graph = ns.get_default_graph()
        return {
            key: [text(item) for item in graph.get_collection(key)]
            for key in graph.get_all_collection_keys()
            # What TensorFlow remembers of scopes while it builds.
            if isinstance(key, str) and not key.startswith("_") and key != "cond_context"
        }

    def text(item: Any) -> str:
        return item.decode() if isinstance(item, bytes) else str(getattr(item, "name", item))

    source, target = sides
    with source.Graph().as_default():
        build(source, model, decayed)
        source.train.export_meta_graph(str(tmp_path / "model.meta"))
        wanted = contents(source)
    assert {"losses", "ops", "sizes", "labels", "summaries", "global_step"} <= wanted.keys()
    with target.Graph().as_default():
        target.train.import_meta_graph(str(tmp_path / "model.meta"))
        assert contents(target) == wanted
        assert target.train.get_global_step().name == "global_step:0"
        assert len(target.moving_average_variables()) == len(target.trainable_variables())
        summary = target.summary.merge_all()
        with new_session(target) as session:
            session.run("init")
            decoded = target.Summary.FromString(session.run(summary))
            assert decoded.value[0].tag == "measured"
            assert decoded.value[0].simple_value == pytest.approx(session.run("loss:0"))
