"""Which tasks there are, and at which addresses: jobs, each a numbered set of `host:port`.

Task numbers need not be dense: a process may describe only the tasks it talks to. `TF_CONFIG`,
the environment variable that TensorFlow's launchers set, holds such a description and says
which of the tasks the process itself is.

Threads: a `ClusterSpec` is immutable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from paramserve_protos.v1 import cluster_pb2

Tasks: TypeAlias = "Sequence[str | bytes] | Mapping[int, str | bytes] | Mapping[str, str | bytes]"
"""A job's addresses: in a sequence by position, or in a mapping by task number."""

ENVIRONMENT_VARIABLE: Final = "TF_CONFIG"


class ClusterSpec:
    """The jobs of a cluster and the address of each of their tasks.

    `ClusterSpec({"ps": ["ps0:2222", "ps1:2222"], "worker": {3: "w3:2222"}})`
    """

    __slots__ = ("_jobs",)

    _jobs: dict[str, dict[int, str]]

    def __init__(self, cluster: Mapping[str, Tasks] | cluster_pb2.ClusterDef | ClusterSpec) -> None:
        """Creates a description.

        Args:
            cluster: Job names with their addresses, a `ClusterDef`, or another `ClusterSpec`.

        Raises:
            TypeError: Something is not of a type named above.
            ValueError: A task number is negative or not a number, or is there twice.
        """
        jobs: dict[str, dict[int, str]] = {}
        if isinstance(cluster, ClusterSpec):
            jobs = {job: dict(tasks) for job, tasks in cluster._jobs.items()}
        elif isinstance(cluster, cluster_pb2.ClusterDef):
            for job_def in cluster.job:
                if job_def.name in jobs:
                    raise ValueError(f"job {job_def.name!r} is twice in the ClusterDef")
                jobs[job_def.name] = _tasks(job_def.name, dict(job_def.tasks))
        elif isinstance(cluster, Mapping):
            for name, tasks in cluster.items():
                job = _text(name, "job name")
                jobs[job] = _tasks(job, tasks)
        else:
            raise TypeError(
                "a cluster is a mapping from job names to addresses, a ClusterDef or a "
                f"ClusterSpec; found {type(cluster).__name__}"
            )
        self._jobs = jobs

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> ClusterSpec:
        """The cluster that `TF_CONFIG` describes.

        `TF_CONFIG` is JSON: `{"cluster": {"ps": ["host:port"]}, "task": {"type": "ps", "index":
        0}}`. See `task_from_env` for the second half.

        Args:
            environ: Where to look; None means this process's environment.

        Raises:
            ValueError: `TF_CONFIG` is missing, is not JSON, or has no usable `cluster`; the
                message says what was found.
        """
        config = _read_config(environ)
        cluster = config.get("cluster")
        if not isinstance(cluster, dict):
            raise ValueError(
                f'{ENVIRONMENT_VARIABLE}: wanted {{"cluster": {{JOB: [ADDRESS, ...]}}}}, found '
                f"{_found(config, 'cluster')}"
            )
        try:
            return cls(cluster)
        except TypeError as error:
            raise ValueError(f"{ENVIRONMENT_VARIABLE}: {error}") from error

    @property
    def jobs(self) -> list[str]:
        """The names of the jobs, in the order they were given."""
        return list(self._jobs)

    def as_dict(self) -> dict[str, list[str] | dict[int, str]]:
        """The jobs with a list of addresses each, or a dict where task numbers are not dense."""
        return {
            job: [tasks[index] for index in sorted(tasks)] if _dense(tasks) else dict(tasks)
            for job, tasks in self._jobs.items()
        }

    def as_cluster_def(self) -> cluster_pb2.ClusterDef:
        """The cluster as a message, jobs in the order of their names."""
        return cluster_pb2.ClusterDef(
            job=[cluster_pb2.JobDef(name=job, tasks=self._jobs[job]) for job in sorted(self._jobs)]
        )

    def num_tasks(self, job_name: str) -> int:
        """How many tasks a job has.

        Raises:
            ValueError: There is no such job.
        """
        return len(self._job(job_name))

    def task_indices(self, job_name: str) -> list[int]:
        """The numbers of a job's tasks, in order.

        Raises:
            ValueError: There is no such job.
        """
        return sorted(self._job(job_name))

    def task_address(self, job_name: str, task_index: int) -> str:
        """The address of one task.

        Raises:
            ValueError: There is no such job or no such task.
        """
        tasks = self._job(job_name)
        try:
            return tasks[task_index]
        except KeyError:
            raise ValueError(
                f"No task with index {task_index!r} in job {job_name!r}; it has {sorted(tasks)}"
            ) from None

    def job_tasks(self, job_name: str) -> list[str | None]:
        """A job's addresses by task number, with None where there is no task.

        Raises:
            ValueError: There is no such job.
        """
        tasks = self._job(job_name)
        return [tasks.get(index) for index in range(max(tasks, default=-1) + 1)]

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClusterSpec):
            return NotImplemented
        return self._jobs == other._jobs

    def __hash__(self) -> int:
        return hash(frozenset((job, frozenset(t.items())) for job, t in self._jobs.items()))

    def __repr__(self) -> str:
        return f"ClusterSpec({dict(sorted(self.as_dict().items()))!r})"

    def _job(self, job_name: str) -> dict[int, str]:
        try:
            return self._jobs[job_name]
        except KeyError:
            raise ValueError(
                f"No such job in cluster: {job_name!r}; it has {sorted(self._jobs)}"
            ) from None


def task_from_env(environ: Mapping[str, str] | None = None) -> tuple[str, int]:
    """Which task this process is, as `TF_CONFIG` says.

    The task need not be in the cluster: workers may come and go without being listed.

    Args:
        environ: Where to look; None means this process's environment.

    Returns:
        The job's name and the task's number, such as `("worker", 0)`.

    Raises:
        ValueError: `TF_CONFIG` is missing, is not JSON, or has no usable `task`; the message says
            what was found.
    """
    config = _read_config(environ)
    task = config.get("task")
    wanted = f'{ENVIRONMENT_VARIABLE}: wanted {{"task": {{"type": JOB, "index": NUMBER}}}}, found '
    if not isinstance(task, dict):
        raise ValueError(wanted + _found(config, "task"))
    job, index = task.get("type"), task.get("index")
    if not isinstance(job, str) or not job:
        raise ValueError(wanted + f"task {json.dumps(task)}")
    # Some launchers write the number as a string.
    if isinstance(index, str) and index.isascii() and index.isdigit():
        index = int(index)
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise ValueError(wanted + f"task {json.dumps(task)}")
    return job, index


def task_name(job: str, index: int) -> str:
    """A task's full name, such as `/job:ps/replica:0/task:1`."""
    return f"/job:{job}/replica:0/task:{index}"


def _tasks(job: str, tasks: object) -> dict[int, str]:
    if isinstance(tasks, Mapping):
        numbered = list(tasks.items())
    elif isinstance(tasks, Sequence) and not isinstance(tasks, str | bytes):
        numbered = list(enumerate(tasks))
    else:
        raise TypeError(
            f"job {job!r}: its tasks are a list of addresses or a mapping from numbers to "
            f"addresses; found {tasks!r}"
        )
    result: dict[int, str] = {}
    for key, address in numbered:
        index = _index(job, key)
        if index in result:
            raise ValueError(f"job {job!r}: task {index} is there twice")
        result[index] = _text(address, f"job {job!r}: address of task {index}")
    return result


def _index(job: str, key: object) -> int:
    try:
        index = int(key)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise ValueError(f"job {job!r}: task number {key!r} is not a number") from None
    if index < 0:
        raise ValueError(f"job {job!r}: task number {index} is negative")
    return int(index)


def _text(value: object, what: str) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise TypeError(f"{what}: wanted a string, found {value!r}")
    return value


def _dense(tasks: Mapping[int, str]) -> bool:
    return max(tasks, default=-1) + 1 == len(tasks)


def _read_config(environ: Mapping[str, str] | None) -> dict[str, object]:
    source = os.environ if environ is None else environ
    text = source.get(ENVIRONMENT_VARIABLE)
    if text is None:
        raise ValueError(
            f"{ENVIRONMENT_VARIABLE} is not set; wanted JSON with the keys 'cluster' and 'task'"
        )
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{ENVIRONMENT_VARIABLE}: not JSON ({error}): {text[:200]!r}") from error
    if not isinstance(config, dict):
        raise ValueError(
            f"{ENVIRONMENT_VARIABLE}: wanted an object with the keys 'cluster' and 'task', found "
            f"{text[:200]!r}"
        )
    return config


def _found(config: Mapping[str, object], key: str) -> str:
    if key in config:
        return f"{key} {json.dumps(config[key])[:200]}"
    return f"no {key!r} among the keys {sorted(config)}"
