"""The examples, run by TensorFlow: unchanged, but for what `import paramserve` gives them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from processes import programs

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"
SEEDS = 5
# Enough steps to learn, few enough that the models differ between seeds.
STEPS = {
    "softmax_regression": 60,
    "dropout_network": 80,
    "convolutional_network": 50,
    "word2vec": 500,
}
# Models may be as far apart as this for no reason but the seeds, in units of the error of the
# difference of their means; and a little more, where all seeds happen to give about the same.
STANDARD_ERRORS = 3.0
MARGIN = 0.02

# Switches of TensorFlow are global, and so is the substitution: in a process of its own.
PROGRAM = """
    import importlib, json, os, sys

    engine, examples, name, steps, seeds = sys.argv[1:]
    if engine == "tensorflow":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import tensorflow.compat.v1 as tf

        tf.logging.set_verbosity(tf.logging.ERROR)
        tf.disable_v2_behavior()
        sys.modules["paramserve"] = tf
    sys.path.insert(0, examples)
    example = importlib.import_module(name)
    accuracies = []
    for seed in range(int(seeds)):
        with example.ps.Graph().as_default():
            accuracies.append(example.main(steps=int(steps), seed=seed))
    assert engine in example.ps.Graph.__module__, example.ps
    print(json.dumps(accuracies))
"""


def accuracies(name: str, *runs: tuple[str, int]) -> list[list[float]]:
    """Those of each seed, for each engine and number of steps; they run at the same time."""
    each = [(engine, str(EXAMPLES), name, str(steps), str(SEEDS)) for engine, steps in runs]
    # They share the cores; a thread of BLAS for each core would only wait for the others'.
    with programs(PROGRAM, each, environment={"OMP_NUM_THREADS": "1"}) as processes:
        return [json.loads(p.output(timeout_s=110).splitlines()[-1]) for p in processes]


def distance(ours: list[float], theirs: list[float]) -> float:
    """How far the means are apart, where 1 is the most that seeds explain."""
    error = ((statistics.variance(ours) + statistics.variance(theirs)) / SEEDS) ** 0.5
    apart = abs(statistics.mean(ours) - statistics.mean(theirs))
    return apart / (STANDARD_ERRORS * error + MARGIN)


@pytest.mark.parametrize("name", STEPS)
def test_a_program_learns_as_much_as_with_tensorflow(name):
    pytest.importorskip("tensorflow", reason="TensorFlow, the oracle, is not installed")
    steps = STEPS[name]
    ours, theirs, untrained = accuracies(
        name, ("paramserve", steps), ("tensorflow", steps), ("paramserve", 0)
    )
    assert distance(ours, theirs) <= 1, (ours, theirs)
    # A model that did not train would be noticed.
    assert distance(untrained, theirs) > 2, (untrained, theirs)
