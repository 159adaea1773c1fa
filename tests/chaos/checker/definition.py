"""The checker's own reading of a definition's text: which steps there are, and which stands before which.

The text was accepted when it was stored, so nothing is checked here. Neighbours marked `parallel: true` are read as a
*group*: a block that has no id, and no history.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import yaml

Path = tuple[tuple[str, int], ...]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the quick one, where it was built
BLOCKS = ("branches", "group", "switch", "forEach", "repeat")
LOOPS = ("forEach", "repeat")


@dataclass(eq=False, kw_only=True)
class Node:
    """A step as it is written, or a group."""

    id: str
    kind: str
    spec: Mapping[str, Any]
    at: Path  # from the outermost sequence down: (sequence, position), (branch, which), …; loops add their iteration
    loops: tuple[str, ...]
    block: Node | None  # around it
    before: Node | None  # the one that stands before it in its sequence
    inside: list[list[Node]] = field(default_factory=list)

    @property
    def is_block(self) -> bool:
        return self.kind in BLOCKS

    @property
    def calls(self) -> bool:
        """A bare pause tells nobody, until it is escalated."""
        return self.kind == "service" and ("service" in self.spec or self.spec.get("onTimeout") == "escalate")

    @property
    def pauses(self) -> bool:
        return bool(self.spec.get("pause"))

    @property
    def goes_on(self) -> bool:
        """Whether what follows has its turn although this step has failed."""
        return self.spec.get("onError") == "continue"

    @property
    def compensation(self) -> str | None:
        found = self.spec.get("compensate")
        service = found["service"] if isinstance(found, dict) else found
        return None if service is None else str(service)

    @property
    def begins_anew(self) -> bool:
        """Whether all its retries are given to it again when its time is up."""
        escalation = self.spec.get("escalate")
        later = escalation.get("onTimeout") if isinstance(escalation, dict) else None
        return "retry" in (self.spec.get("onTimeout"), later)

    def retries(self, phase: str) -> int:
        """After the first call. A compensation has its step's, unless it has its own."""
        undo, found = self.spec.get("compensate"), self.spec.get("retry") or {}
        if phase == "undo" and isinstance(undo, dict) and undo.get("retry"):
            found = undo["retry"]
        return int(found.get("max", 3))

    @property
    def may_be_skipped(self) -> bool:
        return "when" in self.spec or self.kind == "switch"

    @property
    def may_time_out_to_skip(self) -> bool:
        escalation = self.spec.get("escalate")
        later = escalation.get("onTimeout") if isinstance(escalation, dict) else None
        return "skip" in (self.spec.get("onTimeout"), later)

    @property
    def services(self) -> set[str]:
        """Where it may be directed; nothing, where that is not in the text: a lane's backup is configured elsewhere."""
        found = {str(self.spec["service"])} if "service" in self.spec else set()
        if self.spec.get("onTimeout") == "escalate":
            escalation = self.spec.get("escalate")
            to = escalation.get("to") if isinstance(escalation, dict) else None
            return {*found, str(to)} if to else set()
        return found


@dataclass(frozen=True, kw_only=True)
class Definition:
    nodes: Mapping[str, Node]
    steps: Sequence[Node]  # the outermost sequence
    spec: Mapping[str, Any]

    @property
    def undoes_failed(self) -> bool:
        return self.spec.get("compensateOn") == "attempted"

    def node(self, name: str) -> Node | None:
        """None: there is no step of that name, or not in so many loops."""
        node = self.nodes.get(id_of(name))
        return node if node is not None and len(numbers_of(name)) == len(node.loops) else None


class Unreadable(ValueError):
    """A text that is no definition: nothing can be said of its instances."""


def read(text: str) -> Definition:
    """Raises Unreadable."""
    nodes: dict[str, Node] = {}
    try:
        spec = _parsed(text)
        return Definition(nodes=nodes, steps=_sequence(spec["steps"], nodes, (), (), None), spec=spec)
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return yaml.load(text, Loader=LOADER)


def _sequence(
    specs: Sequence[Mapping[str, Any]], nodes: dict[str, Node], at: Path, loops: tuple[str, ...], block: Node | None
) -> list[Node]:
    found: list[Node] = []
    for position, run in enumerate(_runs(specs)):
        before = found[-1] if found else None
        here = (*at, ("sequence", position))
        if len(run) == 1:
            found.append(_node(run[0], nodes, here, loops, block, before))
            continue
        group = Node(id="+".join(one["id"] for one in run), kind="group", spec={}, at=here, loops=loops, block=block,
                     before=before)  # fmt: skip
        for which, spec in enumerate(run):
            inner = (*here, ("branch", which), ("sequence", 0))
            group.inside.append([_node(spec, nodes, inner, loops, group, None)])
        found.append(group)
    return found


def _runs(specs: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    for is_parallel, run in groupby(specs, lambda spec: spec.get("parallel") is True):
        if is_parallel:
            yield list(run)
        else:
            yield from ([one] for one in run)


def _node(
    spec: Mapping[str, Any],
    nodes: dict[str, Node],
    at: Path,
    loops: tuple[str, ...],
    block: Node | None,
    before: Node | None,
) -> Node:
    node = Node(id=spec["id"], kind=_kind(spec), spec=spec, at=at, loops=loops, block=block, before=before)
    nodes[node.id] = node
    within = (*loops, node.id) if node.kind in LOOPS else loops
    for which, inner in enumerate(_inner(spec)):
        place = (*at, (node.kind, -1 if node.kind in LOOPS else which))
        node.inside.append(_sequence(inner, nodes, place, within, node))
    return node


def _kind(spec: Mapping[str, Any]) -> str:
    kinds = ("branches", "switch", "forEach", "repeat", "wait", "workflow", "end", "fail")
    return next((kind for kind in kinds if kind in spec), "service")


def _inner(spec: Mapping[str, Any]) -> list[Any]:
    if "branches" in spec:
        return list(spec["branches"].values())
    if "switch" in spec:
        return [case["steps"] for case in spec["switch"]]
    return [spec["steps"]] if "steps" in spec else []


# -- names: a step's id, and a number for each loop around it


def id_of(name: str) -> str:
    return name.partition("[")[0]


def numbers_of(name: str) -> tuple[int, ...]:
    _, bracket, rest = name.partition("[")
    return tuple(int(number) for number in rest.rstrip("]").split("][")) if bracket else ()


def named(step: str, numbers: Sequence[int]) -> str:
    return step + "".join(f"[{number}]" for number in numbers)


def path_of(node: Node, name: str) -> Path:
    """Where it stands, with the numbers of its iterations."""
    numbers = iter(numbers_of(name))
    return tuple((kind, next(numbers, -1) if kind in LOOPS else which) for kind, which in node.at)


def precedes(one: Path, other: Path) -> bool:
    """Whether what stands at `one` has to be over before what stands at `other` begins."""
    for (kind, mine), (_, its) in zip(one, other, strict=False):
        if mine != its:
            return kind in ("sequence", "repeat") and mine < its
    return False
