"""What the examples share: their flags, and their place in a cluster.

A program that runs alone computes everything in its own process, or on the server of `--target`.
One that `paramserve run` started is a worker: its variables live on the parameter servers, where
all workers update them without waiting for each other, and the first worker initializes them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

import paramserve as ps


class Flags(TypedDict):
    """What the command line said."""

    steps: int
    seed: int
    target: str


def flags(description: str | None, steps: int) -> Flags:
    """Reads the command line.

    Args:
        description: the docstring of the program; its first line is shown by `--help`.
        steps: how many there are by default.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=steps, help="of all workers together")
    parser.add_argument("--seed", type=int, default=0, help="of initial values and batches")
    parser.add_argument("--target", default="", help="a server, as grpc://host:port")
    found = parser.parse_args()
    return {"steps": found.steps, "seed": found.seed, "target": found.target}


def cluster() -> ps.train.ClusterSpec | None:
    """The cluster that `paramserve run` started; None where the program runs alone."""
    return ps.train.ClusterSpec.from_env() if "TF_CONFIG" in os.environ else None


def index() -> int:
    """Which worker this process is; 0 where the program runs alone."""
    return ps.train.task_from_env()[1] if "TF_CONFIG" in os.environ else 0


@contextmanager
def session(target: str) -> Iterator[ps.Session]:
    """A session with all variables of the default graph initialized, by the first worker."""
    init = ps.global_variables_initializer()
    missing = ps.report_uninitialized_variables()
    with ps.Session(cluster() or target) as opened:
        if index() == 0:
            opened.run(init)
        while len(opened.run(missing)):
            time.sleep(0.05)
        yield opened
