"""The form of a Celery message (protocol 2). Celery trusts it: a worker that meets another may stumble where nobody gives
the message up, and then it stays in the worker, whose hand is never free again. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _is_limits(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(_or_none(_is_number)(one) for one in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_signature(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("task")) and _is_mapping(value.get("options", {}))


def _is_signatures(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_is_signature(one) for one in value)


def _is_chord(value: Any) -> bool:
    return _is_signature(value) and all(_is_text(name) for name in value)


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


TEXT, COUNT = _or_none(_is_text), _or_none(_is_count)
HEADERS: Mapping[str, Check] = {
    "id": _is_text, "task": _is_text, "root_id": TEXT, "parent_id": TEXT, "group": TEXT, "group_index": COUNT,
    "eta": TEXT, "expires": TEXT, "retries": COUNT, "timelimit": _or_none(_is_limits), "shadow": TEXT, "origin": TEXT,
    "argsrepr": TEXT, "kwargsrepr": TEXT, "ignore_result": lambda value: value is None or isinstance(value, bool),
    "replaced_task_nesting": COUNT, "stamps": _or_none(_is_mapping),
    "stamped_headers": lambda value: value is None or (isinstance(value, list) and all(map(_is_text, value))),
}  # fmt: skip
EMBEDDED: Mapping[str, Check] = {
    "callbacks": _or_none(_is_signatures), "errbacks": _or_none(_is_signatures), "chain": _or_none(_is_signatures),
    "chord": _or_none(_is_chord),
}  # fmt: skip


def fault(headers: Mapping[str, Any], payload: Any) -> str | None:
    """What is wrong with a message that names a task; none: it can be carried."""
    if "id" not in headers:
        return "it has no id"
    if wrong := _first_wrong(HEADERS, headers):
        return f"its header `{wrong}` is of another kind"
    if not isinstance(payload, list | tuple) or len(payload) != 3:
        return "its body is not [arguments, named arguments, what follows]"
    args, kwargs, embedded = payload
    if not isinstance(args, list | tuple) or not isinstance(kwargs, dict) or not isinstance(embedded, dict | None):
        return "the three parts of its body are not a list and two objects"
    wrong = _first_wrong(EMBEDDED, embedded or {})
    return f"what follows it, `{wrong}`, is of another kind" if wrong else None


def _first_wrong(checks: Mapping[str, Check], given: Mapping[str, Any]) -> str | None:
    return next((name for name, holds in checks.items() if name in given and not holds(given[name])), None)
