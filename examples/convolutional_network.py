"""Reads handwritten digits with two convolutional layers, trained with momentum.

    python examples/convolutional_network.py
    paramserve run --ps 2 --workers 2 -- python examples/convolutional_network.py

Written as image models were: layers add the penalties of their weights to a collection, the
learning rate decays with the global step, and the model is tested with the moving averages of its
variables. Needs scikit-learn, for the images.
"""

from __future__ import annotations

import images
import numpy as np
import workers

import paramserve as ps

CHANNELS = (12, 24)
PENALTY = 1e-4
BATCH = 64
REPORT_EVERY = 50


def variable(shape: list[int], inputs: int) -> ps.Variable:
    """Weights that are kept small, by a penalty in the collection of losses."""
    stddev = (2.0 / inputs) ** 0.5
    weights = ps.Variable(ps.truncated_normal(shape, stddev=stddev), name="weights")
    ps.add_to_collection("losses", ps.multiply(ps.nn.l2_loss(weights), PENALTY, name="penalty"))
    return weights


def logits_of(x: ps.Tensor) -> ps.Tensor:
    """What the network says about images `[n, 64]`: `[n, 10]`."""
    hidden = ps.reshape(x, [-1, 8, 8, 1])
    before = 1
    for number, channels in enumerate(CHANNELS):
        with ps.name_scope(f"conv{number}"):
            kernel = variable([3, 3, before, channels], inputs=9 * before)
            biases = ps.Variable(ps.zeros([channels]), name="biases")
            convolved = ps.nn.conv2d(hidden, kernel, [1, 1, 1, 1], "SAME")
            active = ps.nn.relu(ps.nn.bias_add(convolved, biases))
            hidden = ps.nn.max_pool(active, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
        before = channels
    with ps.name_scope("output"):
        size = 2 * 2 * before
        weights = variable([size, 10], inputs=size)
        biases = ps.Variable(ps.zeros([10]), name="biases")
        return ps.matmul(ps.reshape(hidden, [-1, size]), weights) + biases


def main(steps: int = 300, seed: int = 0, target: str = "") -> float:
    """Trains the model; answers its accuracy on images that it has not seen."""
    ps.set_random_seed(seed)
    with ps.device(ps.train.replica_device_setter(cluster=workers.cluster())):
        x = ps.placeholder(ps.float32, [None, 64], name="x")
        y = ps.placeholder(ps.int64, [None], name="y")
        global_step = ps.Variable(0, trainable=False, name="global_step")
        logits = logits_of(x)
        cross_entropy = ps.reduce_mean(
            ps.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=y)
        )
        loss = ps.add_n([cross_entropy, *ps.get_collection("losses")], name="loss")

        rate = ps.train.exponential_decay(0.05, global_step, 100, 0.7, staircase=True)
        step_op = ps.train.MomentumOptimizer(rate, 0.9).minimize(loss, global_step=global_step)
        averages = ps.train.ExponentialMovingAverage(0.95, global_step)
        with ps.control_dependencies([step_op]):
            train = averages.apply(ps.trainable_variables())
        accuracy = ps.reduce_mean(ps.cast(ps.equal(ps.argmax(logits, 1), y), ps.float32))

    training, test = images.load()
    random = np.random.RandomState(seed + workers.index())
    with workers.session(target) as session:
        step = 0
        while step < steps:
            batch = training.batch(random, BATCH)
            _, step, value = session.run(
                [train, global_step, loss], {x: batch.images, y: batch.labels}
            )
            if step % REPORT_EVERY == 0:
                print(f"step {step:5d}  loss {value:.4f}", flush=True)
        # Fed in place of the variables, which other workers may still be training.
        means = session.run({v: averages.average(v) for v in ps.trainable_variables()})
        final = float(session.run(accuracy, {x: test.images, y: test.labels, **means}))
    print(f"test accuracy {final:.2%}", flush=True)
    return final


if __name__ == "__main__":
    main(**workers.flags(__doc__, steps=300))
