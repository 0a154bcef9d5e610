"""Reads handwritten digits with one layer: softmax regression, trained by gradient descent.

    python examples/softmax_regression.py
    paramserve run --ps 2 --workers 2 -- python examples/softmax_regression.py

The first program of many a tutorial. Needs scikit-learn, for the images.
"""

from __future__ import annotations

import images
import numpy as np
import workers

import paramserve as ps

BATCH = 100
REPORT_EVERY = 100


def main(steps: int = 500, seed: int = 0, target: str = "") -> float:
    """Trains the model; answers its accuracy on images that it has not seen."""
    ps.set_random_seed(seed)
    with ps.device(ps.train.replica_device_setter(cluster=workers.cluster())):
        x = ps.placeholder(ps.float32, [None, 64], name="x")
        y = ps.placeholder(ps.int64, [None], name="y")
        weights = ps.Variable(ps.zeros([64, 10]), name="weights")
        biases = ps.Variable(ps.zeros([10]), name="biases")
        global_step = ps.Variable(0, trainable=False, name="global_step")

        logits = ps.matmul(x, weights) + biases
        loss = ps.reduce_mean(
            ps.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=y)
        )
        train = ps.train.GradientDescentOptimizer(0.5).minimize(loss, global_step=global_step)
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
        final = float(session.run(accuracy, {x: test.images, y: test.labels}))
    print(f"test accuracy {final:.2%}", flush=True)
    return final


if __name__ == "__main__":
    main(**workers.flags(__doc__, steps=500))
