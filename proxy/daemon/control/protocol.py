"""The language of the control socket: a line with a JSON object each way (docs/control.md).

A client connects, sends one request and gets items, then an end or an error; then the connection is
closed. Every object has ``"v": 1``, the version of this language.
"""

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import attrs

VERSION: Final = 1
"""The version of the language; another one is not understood."""

LONGEST_REQUEST: Final = 4_096
"""Bytes of a request, its line feed included."""

LONGEST_ANSWER: Final = 1_048_576
"""Bytes of a line of an answer, likewise."""


class Code(Enum):
    """Why a request is not fulfilled, for programs."""

    BAD_REQUEST = "bad-request"
    """It cannot be understood, or asks for what there is not."""
    NOT_PERMITTED = "not-permitted"
    """Whoever asks may not."""
    NOT_FOUND = "not-found"
    """There is no such session or listener, or it is too late for what was asked."""
    BUSY = "busy"
    """Too many others are asking."""
    TIMEOUT = "timeout"
    """The request did not come in time, or the answer has taken too long."""
    FAULT = "fault"
    """The daemon has failed at it; its log says more."""


class RefusedError(Exception):
    """A request that is not fulfilled.

    Attributes:
        code: why, for programs.
        text: why, for people, on one line.
    """

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class NotUnderstoodError(Exception):
    """An answer that is none; ``str()`` says what is wrong with it."""


@attrs.frozen
class Request:
    """What a client asks for.

    Attributes:
        command: the name of the command.
        arguments: what else the request says, by name.
    """

    command: str
    arguments: Mapping[str, Any]


class Arguments:
    """The arguments of a request, taken one by one.

    Args:
        given: the arguments by name.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = dict(given)

    def text(self, name: str) -> str:
        """Take a text; empty if it was not given.

        Raises:
            RefusedError: it is no text.
        """
        value = self._given.pop(name, "")
        if not isinstance(value, str):
            raise RefusedError(Code.BAD_REQUEST, f"{name} is no text")
        return value

    def whole(self, name: str, most: int) -> int:
        """Take a whole number from 1 to ``most``; 1 if it was not given.

        Raises:
            RefusedError: it is no such number.
        """
        value = self._given.pop(name, 1)
        if type(value) is not int or not 1 <= value <= most:
            text = f"{name} is no whole number from 1 to {most}"
            raise RefusedError(Code.BAD_REQUEST, text)
        return value

    def end(self) -> None:
        """Take note that no other argument means anything.

        Raises:
            RefusedError: others were given.
        """
        if self._given:
            text = f"there is no argument {json.dumps(min(self._given))} of this command"
            raise RefusedError(Code.BAD_REQUEST, text)


def request_line(command: str, arguments: Mapping[str, object]) -> bytes:
    """Write a request; arguments that are empty or None are left out."""
    given = {name: value for name, value in arguments.items() if value not in (None, "")}
    return _line({"command": command, **given})


def read_request(line: bytes) -> Request:
    """Read a request.

    Raises:
        RefusedError: it cannot be understood.
    """
    try:
        content = _read(line)
    except NotUnderstoodError as error:
        raise RefusedError(Code.BAD_REQUEST, f"the request {error}") from error
    command = content.pop("command", None)
    if not isinstance(command, str):
        raise RefusedError(Code.BAD_REQUEST, "the request has no command")
    return Request(command, content)


def item_line(value: Any) -> bytes:
    """Write one item of an answer.

    Args:
        value: a value of `proxy.daemon.control.facts`, or what JSON has.
    """
    return _line({"item": attrs.asdict(value) if attrs.has(type(value)) else value})


def end_line() -> bytes:
    """Write the end of an answer."""
    return _line({"end": True})


def error_line(error: RefusedError) -> bytes:
    """Write that a request is not fulfilled, or no further."""
    return _line({"error": error.text, "code": error.code.value})


def read_answer(line: bytes) -> tuple[bool, Any]:
    """Read a line of an answer.

    Returns:
        Whether it is an item, and the item. Otherwise the answer has ended.

    Raises:
        NotUnderstoodError: it is no answer.
        RefusedError: it says that the request is not fulfilled, or no further.
    """
    content = _read(line)
    if "item" in content:
        return True, content["item"]
    if "end" in content:
        return False, None
    text = content.get("error")
    if not isinstance(text, str):
        raise NotUnderstoodError("is neither an item nor an end nor an error")
    try:
        code = Code(content.get("code"))
    except ValueError:
        code = Code.FAULT
    raise RefusedError(code, text)


def _line(content: Mapping[str, object]) -> bytes:
    return json.dumps({"v": VERSION, **content}, separators=(",", ":")).encode() + b"\n"


def _read(line: bytes) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotUnderstoodError("is not JSON") from error
    if not isinstance(content, dict):
        raise NotUnderstoodError("is not an object of JSON")
    version = content.pop("v", None)
    if type(version) is not int or version != VERSION:
        raise NotUnderstoodError(f'is not in version {VERSION} of the language ("v": {VERSION})')
    return content
