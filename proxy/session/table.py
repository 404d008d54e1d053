"""Transition tables: for each state and input the next state and what is done."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

from proxy.xmpp.errors import Condition, StreamError


class Singletons(Enum):
    """An enumeration whose members are hashed by identity: Enum's own way costs a call."""

    __hash__ = object.__hash__


State = TypeVar("State", bound=Singletons)
Input = TypeVar("Input", bound=Singletons)
Row = TypeVar("Row", bound=tuple[Any, Any])

Table = Mapping[State, Mapping[Input, Row]]


def step(table: Table[State, Input, Row], state: State, what: Input) -> Row:
    """Return the row for an input.

    Raises:
        StreamError: the table has none: the input is out of place.
    """
    row = table[state].get(what)
    if row is None:
        raise StreamError(Condition.BAD_FORMAT, f"out of place: {what.value}, while {state.value}")
    return row
