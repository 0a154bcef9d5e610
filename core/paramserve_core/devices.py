"""Device names: which task, and which device of that task, an op is to run on.

A name is a path of `key:value` parts, such as `/job:ps/task:0/device:CPU:0`, in which every part
may be missing. Missing means "no wish": merging an inner name into an outer one keeps what only
the outer one says.

The grammar is TensorFlow's, with three things refused that it lets through: an empty job, a
negative number, and text that is no number, each with an error naming the whole string.

Threads: a `DeviceSpec` is mutable and not locked; it belongs to whoever made it.
"""

from __future__ import annotations

from typing import Final, Self

_SHORT_TYPES: Final = frozenset({"CPU", "GPU", "TPU"})


class DeviceSpec:
    """A device name, in parts, each of them None when the name does not say.

    Equal to another spec, and hashed, by what it says at that moment.
    """

    __slots__ = ("_device_index", "_device_type", "_job", "_replica", "_task")

    def __init__(
        self,
        job: str | None = None,
        replica: int | str | None = None,
        task: int | str | None = None,
        device_type: str | None = None,
        device_index: int | str | None = None,
    ) -> None:
        """Creates a spec from its parts.

        Args:
            job: Job name, such as `ps`.
            replica: Replica number.
            task: Task number within the job.
            device_type: Such as `CPU`; case does not matter.
            device_index: Number of the device within its task.

        Raises:
            ValueError: A number is negative or is none, or the job is empty.
        """
        where = "DeviceSpec"
        self._job = _job(job, where) if job is not None else None
        self._replica = _number("replica", replica, where)
        self._task = _number("task", task, where)
        self._device_type = device_type.upper() if device_type is not None else None
        self._device_index = _number("device index", device_index, where)

    @property
    def job(self) -> str | None:
        """The job's name."""
        return self._job

    @job.setter
    def job(self, job: str | None) -> None:
        self._job = _job(job, "DeviceSpec") if job is not None else None

    @property
    def replica(self) -> int | None:
        """The replica's number."""
        return self._replica

    @replica.setter
    def replica(self, replica: int | str | None) -> None:
        self._replica = _number("replica", replica, "DeviceSpec")

    @property
    def task(self) -> int | None:
        """The task's number within the job."""
        return self._task

    @task.setter
    def task(self, task: int | str | None) -> None:
        self._task = _number("task", task, "DeviceSpec")

    @property
    def device_type(self) -> str | None:
        """The device's type in capitals, such as `CPU`."""
        return self._device_type

    @device_type.setter
    def device_type(self, device_type: str | None) -> None:
        self._device_type = device_type.upper() if device_type is not None else None

    @property
    def device_index(self) -> int | None:
        """The device's number within its task."""
        return self._device_index

    @device_index.setter
    def device_index(self, device_index: int | str | None) -> None:
        self._device_index = _number("device index", device_index, "DeviceSpec")

    @classmethod
    def from_string(cls, spec: str) -> Self:
        """A new spec from a name.

        Accepts parts in any order and with or without the first slash: `/job:ps/task:0`,
        `/device:CPU:0`, `/cpu:0`, `/gpu:*`. The empty string and `/` say nothing.

        Raises:
            ValueError: The name is malformed; the message quotes it.
        """
        return cls().parse_from_string(spec)

    def parse_from_string(self, spec: str) -> Self:
        """Replaces what this spec says by a name, and returns this spec.

        Raises:
            ValueError: The name is malformed; this spec is then unchanged.
        """
        job: str | None = None
        numbers: dict[str, int | None] = {"replica": None, "task": None}
        device: tuple[str, int | None] | None = None
        for part in spec.split("/"):
            if not part:
                continue
            key, *values = part.split(":")
            if key == "job" and len(values) == 1:
                job = _job(values[0], spec)
                continue
            if key in numbers and len(values) == 1:
                numbers[key] = _number(key, values[0], spec)
                continue
            found = _device(key, values, spec)
            if found is None:
                raise ValueError(
                    f"device name {spec!r}: {part!r} is not one of job:NAME, replica:N, task:N, "
                    f"device:TYPE:N, cpu:N, gpu:N"
                )
            if device is not None:
                raise ValueError(f"device name {spec!r}: more than one device type")
            device = found
        self._job = job
        self._replica = numbers["replica"]
        self._task = numbers["task"]
        self._device_type, self._device_index = device if device is not None else (None, None)
        return self

    def merge_from(self, dev: DeviceSpec) -> None:
        """Takes over every part that `dev` says; keeps the others."""
        if dev.job is not None:
            self._job = dev.job
        if dev.replica is not None:
            self._replica = dev.replica
        if dev.task is not None:
            self._task = dev.task
        if dev.device_type is not None:
            self._device_type = dev.device_type
        if dev.device_index is not None:
            self._device_index = dev.device_index

    def make_merged_spec(self, dev: DeviceSpec) -> DeviceSpec:
        """A new spec: this one with every part that `dev` says taken from `dev`."""
        merged = DeviceSpec(
            self._job, self._replica, self._task, self._device_type, self._device_index
        )
        merged.merge_from(dev)
        return merged

    def to_string(self) -> str:
        """The canonical name, such as `/job:ps/task:0/device:CPU:0`; empty when it says nothing.

        An index without a type is not part of the name.
        """
        parts = []
        if self._job is not None:
            parts.append(f"/job:{self._job}")
        if self._replica is not None:
            parts.append(f"/replica:{self._replica}")
        if self._task is not None:
            parts.append(f"/task:{self._task}")
        if self._device_type is not None:
            index = "*" if self._device_index is None else self._device_index
            parts.append(f"/device:{self._device_type}:{index}")
        return "".join(parts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DeviceSpec):
            return NotImplemented
        return self.to_string() == other.to_string()

    def __hash__(self) -> int:
        return hash(self.to_string())

    def __repr__(self) -> str:
        return (
            f"<DeviceSpec(job={self._job}, replica={self._replica}, task={self._task}, "
            f"device_type={self._device_type}, device_index={self._device_index})>"
        )


def parse(device: str | DeviceSpec | None) -> DeviceSpec:
    """A spec of the caller's own from a name, a spec, or None (which says nothing).

    Raises:
        ValueError: The name is malformed; the message quotes it.
    """
    if device is None:
        return DeviceSpec()
    if isinstance(device, DeviceSpec):
        return DeviceSpec().make_merged_spec(device)
    return DeviceSpec.from_string(device)


def canonical_name(device: str | DeviceSpec | None) -> str:
    """The one spelling of a device name: `/cpu:0` becomes `/device:CPU:0`, None becomes ``.

    Raises:
        ValueError: The name is malformed; the message quotes it.
    """
    return parse(device).to_string()


def _job(name: str, where: str) -> str:
    if not name:
        raise ValueError(f"device name {where!r}: the job's name is empty")
    return name


def _number(what: str, value: int | str | None, where: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError(f"device name {where!r}: {what} {value!r} is not a number")
    number = int(value)
    if number < 0:
        raise ValueError(f"device name {where!r}: {what} {number} is negative")
    return number


def _device(key: str, values: list[str], where: str) -> tuple[str, int | None] | None:
    """(type, index) of a `device:TYPE:INDEX`, `TYPE:INDEX` or `TYPE` part; None for other parts."""
    if key == "device" and len(values) == 2 and values[0]:
        kind, index = values[0].upper(), values[1]
    elif key.upper() in _SHORT_TYPES and len(values) <= 1:
        kind, index = key.upper(), values[0] if values else "*"
    else:
        return None
    return kind, None if index == "*" else _number("device index", index, where)
