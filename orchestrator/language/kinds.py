"""Which keys go together on a step, and the mend where one stands beside a key that it does not go with. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

COMMON = frozenset({"id", "title", "when", "parallel"})

# The key that says what a step does → the keys that may stand beside it. Where two are written, the first here counts.
KINDS: dict[str, frozenset[str]] = {
    "branches": frozenset(),
    "switch": frozenset(),
    "forEach": frozenset({"as", "maxConcurrency", "steps"}),
    "repeat": frozenset({"steps", "onError"}),
    "wait": frozenset(),
    "workflow": frozenset({"input", "onError"}),
    "end": frozenset(),
    "fail": frozenset(),
    "service": frozenset(
        {"input", "compensate", "retry", "timeout", "onTimeout", "escalate", "pause", "onReject", "onError"}
    ),
    "pause": frozenset({"timeout", "onTimeout", "escalate", "onReject", "onError"}),  # true, without a service
}
BLOCKS = frozenset({"branches", "switch", "forEach", "repeat"})
LOOPS = frozenset({"forEach", "repeat"})
SERVICE_KEYS = KINDS["service"] | {"service"}

LOOP_KEYS = {"as": "`forEach`", "maxConcurrency": "`forEach`", "steps": "`forEach` or `repeat`"}
NEEDS = {
    "as": "it names the item of a `forEach`",
    "maxConcurrency": "it is for a `forEach`",
    "steps": "say how often its steps run, as in forEach: payload.documents",
}
MENDS: dict[tuple[str, str], str] = {
    ("workflow", "timeout"): "give the sub-workflow a `deadline`",
    ("workflow", "compensate"): "undone, a sub-workflow undoes what its own steps did",
    ("workflow", "retry"): "the steps of the sub-workflow have their own",
    ("repeat", "timeout"): "the instance may have a `deadline`, and a step inside a `timeout`",
    ("wait", "timeout"): "its time is what it waits for",
    ("switch", "steps"): "put them into a case, as in - {when: payload.ok, steps: […]}",
    ("branches", "steps"): "put them into a branch, as in name: […]",
    ("switch", "onError"): "put it on a step inside",
}


def kind_of(step: dict[str, Any]) -> str | None:
    """The key that says what a written step does; none where none does."""
    kind = next((kind for kind in KINDS if kind in step), None)
    return None if kind == "pause" and step["pause"] is not True else kind


def strays(kind: str | None, keys: Iterable[str]) -> list[tuple[str, str, str]]:
    """Those of a step's `keys` that do not go with its kind: the key, what is wrong, how to mend it."""
    if kind is None:
        return [(key, f"`{key}` needs {needed}", NEEDS[key]) for key in keys if (needed := LOOP_KEYS.get(key))]
    beside = {kind, *COMMON, *KINDS[kind]}
    if kind == "pause":
        found = [key for key in keys if key not in beside]
        return [(key, f"`{key}` needs a `service`", "this step calls none") for key in found]
    return [(key, f"`{key}` does not go with `{kind}`", _mend(kind, key)) for key in keys if key not in beside]


def _mend(kind: str, key: str) -> str:
    if said := MENDS.get((kind, key)):
        return said
    if kind in BLOCKS and key in SERVICE_KEYS:
        return "put it on a step inside"
    return "put it on a step of its own" if key in KINDS else NEEDS.get(key, "remove it")
