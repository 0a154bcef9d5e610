"""What a session's `ConfigProto` asks of its master.

Thread rule: immutable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from paramserve_core.devices import DeviceSpec
from paramserve_core.errors import InvalidArgumentError
from paramserve_protos.v1 import config_pb2

_MAX_CPUS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterOptions:
    """The part of a session's configuration that concerns tasks.

    Attributes:
        soft_placement: run an op on the default task when its device is not there.
        log_placement: log the task of each op when a plan is made.
        device_filters: the tasks that the session may use, each a device such as "/job:ps"; none
            means all.
        cpus: how many CPU devices each task answers to.
    """

    soft_placement: bool = False
    log_placement: bool = False
    device_filters: tuple[str, ...] = ()
    cpus: int = 1

    @classmethod
    def from_config(cls, config: config_pb2.ConfigProto | None) -> MasterOptions:
        """Reads a configuration.

        Raises:
            InvalidArgumentError: a device filter is no device, or there are to be too many.
        """
        if config is None:
            return cls()
        for text in config.device_filters:
            try:
                DeviceSpec.from_string(text)
            except ValueError as error:
                raise InvalidArgumentError(
                    None, None, f"device_filters of the session's config: {error}"
                ) from None
        cpus = config.device_count.get("CPU", 1)
        if not 0 <= cpus <= _MAX_CPUS:
            raise InvalidArgumentError(
                None,
                None,
                f"device_count of the session's config: {cpus} CPU devices; wanted 0 (as many as "
                f"there are, which is one) to {_MAX_CPUS}",
            )
        return cls(
            soft_placement=config.allow_soft_placement,
            log_placement=config.log_device_placement,
            device_filters=tuple(config.device_filters),
            cpus=max(cpus, 1),
        )

    def may_use(self, task: str) -> bool:
        """Whether the session may use the task of that name."""
        if not self.device_filters:
            return True
        spec = DeviceSpec.from_string(task)
        for text in self.device_filters:
            wanted = DeviceSpec.from_string(text)
            if wanted.job in (None, spec.job) and wanted.task in (None, spec.task):
                return True
        return False
