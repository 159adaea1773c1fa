"""Bugs to be planted: the campaign has to find each of them, or it would find nothing."""

from __future__ import annotations

from collections.abc import Callable

BUGS: dict[str, Callable[[], None]] = {}
