"""The file that the services keep: what was asked of them and what they did, in the order in which they took it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.checker.report import Violation

KEY = re.compile(r"(?P<trace>[^:]+):(?P<step>[^:]+)(?P<numbers>(:\d+)*):g(?P<generation>\d+):(?P<phase>do|undo)")
KINDS = ("keyed", "asked", "blind", "safe")


@dataclass(frozen=True, slots=True)
class Key:
    """What an idempotency key says of itself. `generation` is none where the text has not the form of a key."""

    text: str
    trace: str
    step: str  # with the numbers of its iterations: `sign[3]`
    generation: int | None
    phase: str


@dataclass(frozen=True, slots=True)
class Line:
    n: int
    what: str  # call, ask or effect
    lane: str
    operation: str
    key: Key
    attempt: int | None
    body: str | None
    agency: str | None

    @property
    def service(self) -> str:
        return f"{self.lane}.{self.operation}"


@dataclass(frozen=True, kw_only=True)
class Ledger:
    by_trace: dict[str, list[Line]]
    violations: tuple[Violation, ...]


def kind_of(service: str | None) -> str | None:
    """What a lane promises, by the beginning of its name; none: its calls are not in the ledger."""
    lane = (service or "").partition(".")[0]
    return next((kind for kind in KINDS if lane.startswith(kind)), None)


def has_effects(service: str | None) -> bool:
    return kind_of(service) in ("keyed", "asked", "blind")


def key_of(text: str) -> Key:
    found = KEY.fullmatch(text)
    if found is None:  # as much of it as can be made out, so that it is counted with those it belongs to
        trace, step, *_, phase = [*text.split(":"), "", ""][: max(3, text.count(":") + 1)]
        return Key(text, trace, step, None, phase)
    numbers = "".join(f"[{number}]" for number in found["numbers"].split(":")[1:])
    return Key(text, found["trace"], found["step"] + numbers, int(found["generation"]), found["phase"])


def read(path: Path) -> Ledger:
    by_trace: dict[str, list[Line]] = defaultdict(list)
    broken: list[Violation] = []
    keys: dict[str, Key] = {}
    for at, told in enumerate(_told(path), start=1):
        if told is None or told.get("n") != at:
            text = f"line {at} is {'not JSON' if told is None else 'numbered ' + str(told.get('n'))}"
            broken.append(Violation(kind="ledger-broken", trace="-", text=text))
            break
        text = str(told["key"])
        key = keys.get(text) or keys.setdefault(text, key_of(text))
        by_trace[key.trace].append(_line(told, key))
    return Ledger(by_trace=dict(by_trace), violations=tuple(broken))


def _line(told: dict[str, Any], key: Key) -> Line:
    attempt = told.get("attempt")
    return Line(
        told["n"], told["what"], told["lane"], told["operation"], key, None if attempt is None else int(attempt),
        told.get("body"), told.get("agency"),
    )  # fmt: skip


def _told(path: Path) -> Iterator[dict[str, Any] | None]:
    """Line by line; the last one may still be being written, and is then left out."""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                told = json.loads(line)
            except ValueError:
                yield None
                return
            yield told if isinstance(told, dict) else None
