"""Every place in the engine's text that commits, publishes or sends: so that the spy itself can miss none.

A place is the function that holds the call. Those that no shape of the sweep can pass are listed here, with the reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

CALLS = frozenset({"transaction", "across_tenants", "publish", "apply_async", "send_task", "exchange", "transition"})
PARTS = ("orchestrator", "tasks/legs.py", "tasks/landed.py")

# A module or a function, by its beginning → why nothing can be lost or doubled there.
EXCLUDED: Mapping[str, str] = {
    "api.": "a face: it calls the use cases that the flights call, and asks whether the database is there",
    "commands.": "a face, and it reads for people",
    "boards.": "reads for people",
    "queries.": "reads for people",
    "longpoll.": "reads for people",
    "orders.": "reads which instances an order is for; each is ordered by a use case that the flights call",
    "lane_orders.listed": "reads for people",
    "retention.count": "reads for people",
    "store.restored.recovery": "a read, before a worker starts",
    "store.definitions.Plans._text": "a read, of a definition that this process has not met yet",
    "store.transitions.transition": "the transition itself: each of its callers is a place of its own",
    "bootstrap._fitting": "at the start of a process, which reads what schema there is",
    "bootstrap._kept_secret": "at the start of a process; who repeats it finds the key that was kept",
    "bootstrap._load_file": "at the start of a process, which loads each file again",
    "engine.put_definition": "one transaction, before an instance of it can be",
    "dispatch.Dispatcher.stop": "wakes a thread that would wake by itself",
    "publisher.Publisher.stop": "wakes a thread that would wake by itself",
    "dispatch.say_again": "a hint that nobody here reads, promised and sent again as `dispatch` does",
    "unread.": "answers of a protocol that is not read here: kept in the broker, acknowledged once a copy is confirmed",
    "pulse.": "a worker's message to itself: nothing hangs on it",
    "canary.": "starts an instance of our own, in one transaction; who repeats it finds that of the interval",
    "dead_letters.": "evidence: one letter more or less changes no flight",
    "dispatch._message": "a definition that cannot be read any more: a hint is put off, in one transaction",
    "dispatch._queue": "a lane's queue was configured anew: marks where a hint goes, in one transaction",
    "sweep._put_off": "after an error of ours: when to look again, in one transaction",
    "children._one": "after an error of ours: when to look again, in one transaction",
}


def places(root: Path) -> set[str]:
    """`module.function`, as the spy names them."""
    files = [
        file for part in PARTS for file in ([root / part] if part.endswith(".py") else (root / part).rglob("*.py"))
    ]
    return {f"{_module(root, file)}.{name}" for file in files for name in _functions(ast.parse(file.read_text()), ())}


def _module(root: Path, file: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts).removeprefix("orchestrator.")


def _functions(tree: ast.AST, within: tuple[str, ...]) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from _functions(node, (*within, node.name))
        else:
            if isinstance(node, ast.Call) and _name(node) in CALLS:
                yield ".".join(within)
            yield from _functions(node, within)


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def missed(root: Path, seen: set[str]) -> list[str]:
    """Places that no flight has passed, and that no reason excuses."""
    return sorted(one for one in places(root) - seen if not one.startswith(tuple(EXCLUDED)))


def idle(root: Path) -> list[str]:
    """Reasons that excuse nothing any more."""
    found = places(root)
    return [name for name in EXCLUDED if not any(one.startswith(name) for one in found)]
