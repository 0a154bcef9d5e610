"""JSON from a disk, read with every field checked.

A file may be damaged or a stranger's, so nothing in it is trusted: a missing or surplus member, a
number that is no integer or is out of range, a name twice, nesting without end. All of it is a
`MalformedError` that says where; the caller adds which file.

Thread rule: pure functions and immutable objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_NAME_BYTES = 4096
MAX_RANK = 32
MAX_INT = (1 << 63) - 1


class MalformedError(ValueError):
    """What was read is not what the format says."""


def parse_object(text: bytes | str) -> Fields:
    """The JSON object in `text`."""
    try:
        if isinstance(text, bytes):
            text = text.decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        if isinstance(error, MalformedError):
            raise
        raise MalformedError(f"no valid JSON ({error})") from None
    return Fields(value, "the file")


def parse_first(text: bytes) -> Fields:
    """The JSON object that `text` begins with, whatever follows."""
    try:
        value, _ = _DECODER.raw_decode(text.decode())
    except (ValueError, RecursionError) as error:
        if isinstance(error, MalformedError):
            raise
        raise MalformedError(f"no valid JSON ({error})") from None
    return Fields(value, "the file")


def quoted(text: str) -> str:
    """A string as JSON has it, with what is not ASCII as it is."""
    return encode_basestring(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("an object has one name twice")
    return found


def _refuse(constant: str) -> None:
    raise MalformedError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


class Fields:
    """A JSON object, read member by member."""

    __slots__ = ("_members", "_name", "_outer")

    def __init__(self, value: Any, name: str, outer: Fields | None = None) -> None:
        self._members: Mapping[str, Any] = value
        self._name = name
        self._outer = outer
        if not isinstance(value, dict):
            raise MalformedError(f"{self._where} should be an object, is {_shown(value)}")

    @property
    def _where(self) -> str:
        # Put together when something is wrong only: there may be 100,000 objects.
        return self._name if self._outer is None else f"{self._name:.100} of {self._outer._where}"

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def only(self, *names: str) -> None:
        """Refuses members that are not among `names`."""
        surplus = [name for name in self._members if name not in names]
        if surplus:
            raise MalformedError(f"{self._where} has the unknown member {min(surplus)!r:.100}")

    def fields(self, name: str) -> Fields:
        """A member that is an object."""
        return Fields(self._get(name), repr(name), self)

    def text(self, name: str, max_bytes: int = MAX_NAME_BYTES) -> str:
        """A member that is a string."""
        value = self._get(name)
        try:
            # A character is 4 bytes at most.
            if isinstance(value, str) and (
                (4 * len(value) <= max_bytes and value.isascii())
                or len(value.encode()) <= max_bytes
            ):
                return value
        except UnicodeEncodeError:
            pass
        raise self._wrong(name, f"a string of at most {max_bytes} bytes", value)

    def integer(self, name: str, minimum: int = 0, maximum: int = MAX_INT) -> int:
        """A member that is an integer in a range."""
        return self._integer(name, self._get(name), minimum, maximum)

    def checksum(self, name: str) -> int:
        """A member that is 8 hexadecimal digits."""
        return self._checksum(name, self._get(name))

    def checksums(self, name: str, count: int) -> NDArray[np.uint32]:
        """A member that is a string of `count` times 8 hexadecimal digits."""
        value = self._get(name)
        if isinstance(value, str) and len(value) == 8 * count:
            try:
                # Blanks, which are passed over, would be missing here.
                return np.frombuffer(bytes.fromhex(value), ">u4", count).astype(np.uint32)
            except ValueError:
                pass
        raise self._wrong(name, f"a string of {8 * count} hexadecimal digits", value)

    def column(self, name: str, count: int, maximum: int = MAX_INT) -> NDArray[np.int64]:
        """A member that is a list of `count` integers from 0."""
        values = self._get(name)
        # A bool is an integer to NumPy, and a list is a row.
        if isinstance(values, list) and len(values) == count and set(map(type, values)) <= {int}:
            try:
                column = np.array(values, np.int64)
            except OverflowError:
                column = np.array([-1])
            if not count or (column.min() >= 0 and column.max() <= maximum):
                return column
        raise self._wrong(name, f"a list of {count} integers from 0 to {maximum}", values)

    def texts(self) -> dict[str, str]:
        """All members, which are strings; their names are text that can be written."""
        try:
            "\0".join(self._members).encode()
        except UnicodeEncodeError:
            raise MalformedError(f"{self._where} has a name with half a character") from None
        if set(map(type, self._members.values())) <= {str}:
            return dict(self._members)
        name = next(name for name, value in self._members.items() if not isinstance(value, str))
        raise self._wrong(name, "a string", self._members[name])

    def integers(self, name: str, minimum: int = 0) -> tuple[int, ...]:
        """A member that is a list of at most 32 integers."""
        values = self._get(name)
        if not isinstance(values, list) or len(values) > MAX_RANK:
            raise self._wrong(name, f"a list of at most {MAX_RANK} integers", values)
        return tuple([self._integer(name, value, minimum, MAX_INT) for value in values])

    def objects(self, name: str) -> list[Fields]:
        """A member that is a list of objects."""
        values = self._get(name)
        if not isinstance(values, list):
            raise self._wrong(name, "a list", values)
        return [Fields(value, f"an item of {name!r}", self) for value in values]

    def _integer(self, name: str, value: Any, minimum: int, maximum: int) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum:
            return value
        raise self._wrong(name, f"an integer from {minimum} to {maximum}", value)

    def _checksum(self, name: str, value: Any) -> int:
        if isinstance(value, str) and len(value) == 8 and not value.strip("0123456789abcdef"):
            return int(value, 16)
        raise self._wrong(name, "8 hexadecimal digits", value)

    def _get(self, name: str) -> Any:
        try:
            return self._members[name]
        except KeyError:
            raise MalformedError(f"{self._where} has no member {name!r:.100}") from None

    def _wrong(self, name: str, wanted: str, value: Any) -> MalformedError:
        return MalformedError(
            f"{name!r:.100} of {self._where} should be {wanted}, is {_shown(value)}"
        )


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, (list, dict)) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
