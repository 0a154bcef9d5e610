"""Trains a classifier of handwritten digits, with its variables on parameter servers.

    paramserve run --ps 2 --workers 2 -- python examples/digits.py
    paramserve run --ps 2 --workers 1 -- python examples/digits.py --restore

Every worker trains on its own share of the data and updates the variables that all of them share,
without waiting for the others. The first worker initializes the variables, saves checkpoints on the
servers' disks, and reports. With `--restore` nothing is trained or initialized: the variables are
read from the newest checkpoint, and the accuracy is that of the model when it was saved.

Needs scikit-learn for the data, which come with it, and matplotlib for the plot.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import paramserve as ps

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

CHECKPOINT = "digits.ckpt"
BATCH = 64
HIDDEN = 96


def load_data() -> tuple[Array, Labels, Array, Labels]:
    """Images `[n, 64]` in [0, 1] and labels `[n]`: 1400 to train with, 397 to test with."""
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    images = (digits.data / 16.0).astype(np.float32)[order]
    labels = digits.target.astype(np.int64)[order]
    return images[:1400], labels[:1400], images[1400:], labels[1400:]


class Model:
    """A network with one hidden layer, and the ops that train and measure it."""

    def __init__(self) -> None:
        self.images = ps.placeholder(ps.float32, [None, 64], name="images")
        self.labels = ps.placeholder(ps.int64, [None], name="labels")
        hidden_weights = ps.Variable(
            ps.truncated_normal([64, HIDDEN], stddev=0.15), name="hidden/weights"
        )
        hidden_biases = ps.Variable(ps.zeros([HIDDEN]), name="hidden/biases")
        weights = ps.Variable(ps.truncated_normal([HIDDEN, 10], stddev=0.12), name="output/weights")
        biases = ps.Variable(ps.zeros([10]), name="output/biases")
        self.global_step = ps.Variable(0, trainable=False, name="global_step")

        hidden = ps.nn.relu(ps.matmul(self.images, hidden_weights) + hidden_biases)
        logits = ps.matmul(hidden, weights) + biases
        losses = ps.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=self.labels)
        self.loss = ps.reduce_mean(losses, name="loss")
        is_right = ps.equal(ps.argmax(logits, 1), self.labels)
        self.accuracy = ps.reduce_mean(ps.cast(is_right, ps.float32), name="accuracy")
        self.train = ps.train.AdamOptimizer(0.002).minimize(self.loss, global_step=self.global_step)
        ps.scalar_summary("loss", self.loss)
        ps.scalar_summary("test_accuracy", self.accuracy)
        self.summaries = ps.merge_all_summaries()
        self.is_ready = ps.report_uninitialized_variables()
        self.init = ps.initialize_all_variables()
        self.saver = ps.train.Saver(max_to_keep=3)


class Progress:
    """What the first worker reports, keeps for the plot, and writes for TensorBoard."""

    def __init__(self, model: Model, logdir: str | None) -> None:
        self._model = model
        self._writer = (
            ps.train.SummaryWriter(logdir, ps.get_default_graph()) if logdir is not None else None
        )
        self._began = time.monotonic()
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.accuracies: list[float] = []

    def report(self, session: ps.Session, images: Array, labels: Labels) -> float:
        """Measures on the test data; answers the accuracy."""
        model = self._model
        step, loss, accuracy, summaries = session.run(
            [model.global_step, model.loss, model.accuracy, model.summaries],
            {model.images: images, model.labels: labels},
        )
        self.steps.append(int(step))
        self.losses.append(float(loss))
        self.accuracies.append(float(accuracy))
        elapsed = time.monotonic() - self._began
        print(
            f"step {step:5d}  test loss {loss:.4f}  test accuracy {accuracy:.2%}  {elapsed:.1f} s",
            flush=True,
        )
        if self._writer is not None:
            self._writer.add_summary(summaries, int(step))
        return float(accuracy)

    def close(self, plot: Path) -> None:
        """Saves the plot and finishes the event file."""
        if self._writer is not None:
            self._writer.close()
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, left = pyplot.subplots(figsize=(7, 4))
        left.plot(self.steps, self.losses, color="tab:red", label="test loss")
        left.set_xlabel("step, all workers together")
        left.set_ylabel("loss", color="tab:red")
        right = left.twinx()
        right.plot(self.steps, self.accuracies, color="tab:blue", label="test accuracy")
        right.set_ylabel("accuracy", color="tab:blue")
        figure.tight_layout()
        plot.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(plot, dpi=120)
        print(f"plot: {plot}", flush=True)


def train(
    session: ps.Session, model: Model, index: int, workers: int, args: argparse.Namespace
) -> None:
    """One worker's training loop; the first worker also initializes, reports and saves."""
    images, labels, test_images, test_labels = load_data()
    mine = slice(index, None, workers)
    images, labels = images[mine], labels[mine]
    is_first = index == 0
    if is_first:
        session.run(model.init)
    while len(session.run(model.is_ready)):
        time.sleep(0.05)
    progress = Progress(model, args.logdir) if is_first else None
    random = np.random.RandomState(index)
    step, last_report = 0, 0
    while step < args.steps:
        batch = random.randint(len(labels), size=BATCH)
        step, _ = session.run(
            [model.global_step, model.train],
            {model.images: images[batch], model.labels: labels[batch]},
        )
        if progress is not None and step - last_report >= args.report_every:
            last_report = step
            progress.report(session, test_images, test_labels)
            model.saver.save(session, CHECKPOINT, global_step=model.global_step)
    if progress is not None:
        progress.report(session, test_images, test_labels)
        path = model.saver.save(session, CHECKPOINT, global_step=model.global_step)
        accuracy = measure_restored(session, model, path, test_images, test_labels)
        print(f"checkpoint: {path}\ntest accuracy of the checkpoint: {accuracy:.4%}", flush=True)
        progress.close(Path(args.plot))


def measure_restored(
    session: ps.Session, model: Model, path: str, images: Array, labels: Labels
) -> float:
    """The accuracy of a checkpoint, while other workers still end with a step of their own."""
    last = None
    while True:
        model.saver.restore(session, path)
        found = measure(session, model, images, labels), int(session.run(model.global_step))
        if found == last:
            return found[0]
        last = found


def measure(session: ps.Session, model: Model, images: Array, labels: Labels) -> float:
    """The accuracy of the model as it is on the servers."""
    return float(session.run(model.accuracy, {model.images: images, model.labels: labels}))


def restore(session: ps.Session, model: Model) -> None:
    """Measures the newest checkpoint on servers that have just started."""
    _, _, test_images, test_labels = load_data()
    path = ps.train.latest_checkpoint(".", session=session)
    if path is None:
        raise SystemExit("no checkpoint on the servers; train first, without --restore")
    model.saver.restore(session, path)
    accuracy = measure(session, model, test_images, test_labels)
    print(f"checkpoint: {path}\ntest accuracy of the checkpoint: {accuracy:.4%}", flush=True)


def main() -> None:
    """Runs one worker of the cluster that TF_CONFIG describes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500, help="of all workers together")
    parser.add_argument("--report-every", type=int, default=150)
    parser.add_argument("--plot", default="build/digits.png", help="where the plot goes")
    parser.add_argument("--logdir", help="write TensorBoard event files into this folder")
    parser.add_argument("--restore", action="store_true", help="measure the newest checkpoint")
    args = parser.parse_args()

    cluster = ps.train.ClusterSpec.from_env()
    _, index = ps.train.task_from_env()
    workers = max(1, len(cluster.as_dict().get("worker", [])))
    with ps.device(ps.train.replica_device_setter(cluster=cluster)):
        model = Model()
    with ps.Session(cluster) as session:
        if args.restore:
            restore(session, model)
        else:
            train(session, model, index, workers, args)


if __name__ == "__main__":
    main()
