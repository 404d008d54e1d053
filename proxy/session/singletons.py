"""Enumerations that are looked up on every event."""

from enum import Enum


class Singletons(Enum):
    """An enumeration whose members are hashed by identity: Enum's own way costs a call."""

    __hash__ = object.__hash__
