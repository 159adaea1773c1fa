"""Putting something of ours in the place of something of theirs, for the rest of a process' life."""

from __future__ import annotations


def plant(place: object, name: str, what: object) -> None:
    getattr(place, name)  # a name that is no more there would be planted in vain
    setattr(place, name, what)
