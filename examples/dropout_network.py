"""Reads handwritten digits with two hidden layers, dropout between them, trained by Adam.

    python examples/dropout_network.py
    paramserve run --ps 2 --workers 2 -- python examples/dropout_network.py

What is dropped is chosen anew in every step, and nothing is dropped when the model is tested.
Needs scikit-learn, for the images.
"""

from __future__ import annotations

import images
import numpy as np
import workers

import paramserve as ps

HIDDEN = (128, 64)
KEPT = 0.7
BATCH = 100
REPORT_EVERY = 100


def layer(inputs: ps.Tensor, size: int, name: str) -> ps.Tensor:
    """A fully connected layer."""
    with ps.variable_scope(name):
        weights: ps.Variable = ps.get_variable(
            "weights",
            [inputs.get_shape().as_list()[1], size],
            initializer=ps.variance_scaling_initializer(scale=2.0),
        )
        biases: ps.Variable = ps.get_variable("biases", [size], initializer=ps.zeros_initializer())
        return ps.matmul(inputs, weights) + biases


def main(steps: int = 500, seed: int = 0, target: str = "") -> float:
    """Trains the model; answers its accuracy on images that it has not seen."""
    ps.set_random_seed(seed)
    with ps.device(ps.train.replica_device_setter(cluster=workers.cluster())):
        x = ps.placeholder(ps.float32, [None, 64], name="x")
        y = ps.placeholder(ps.int64, [None], name="y")
        keep_prob = ps.placeholder_with_default(1.0, [], name="keep_prob")
        global_step = ps.train.get_or_create_global_step()

        hidden = x
        for number, size in enumerate(HIDDEN):
            hidden = ps.nn.relu(layer(hidden, size, f"hidden{number}"))
            hidden = ps.nn.dropout(hidden, keep_prob=keep_prob)
        logits = layer(hidden, 10, "output")
        loss = ps.reduce_mean(
            ps.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=y)
        )
        train = ps.train.AdamOptimizer(0.003).minimize(loss, global_step=global_step)
        accuracy = ps.reduce_mean(ps.cast(ps.equal(ps.argmax(logits, 1), y), ps.float32))

    training, test = images.load()
    random = np.random.RandomState(seed + workers.index())
    with workers.session(target) as session:
        step = 0
        while step < steps:
            batch = training.batch(random, BATCH)
            _, step, value = session.run(
                [train, global_step, loss], {x: batch.images, y: batch.labels, keep_prob: KEPT}
            )
            if step % REPORT_EVERY == 0:
                print(f"step {step:5d}  loss {value:.4f}", flush=True)
        final = float(session.run(accuracy, {x: test.images, y: test.labels}))
    print(f"test accuracy {final:.2%}", flush=True)
    return final


if __name__ == "__main__":
    main(**workers.flags(__doc__, steps=500))
