"""What the fields of a filter form choose: `store.filters.Filter`, as lists and orders by filter have it everywhere."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator import queries
from orchestrator.errors import BadRequest
from orchestrator.states import INSTANCE_STATES
from orchestrator.store.filters import Filter, moment

FIELDS = ("q", "status", "workflow", "lane", "key", "since", "late", "stuck", "version")  # as they stand in an address

Asked = dict[str, str]


def asked_in(given: Mapping[str, str]) -> Asked:
    """The fields that were filled in, and the cursor."""
    return {name: value for name in (*FIELDS, "cursor") if (value := given.get(name, "").strip())}


def chosen_by(tenant: str, asked: Asked, *, limit: int) -> Filter:
    """Raises BadRequest, saying what a field may hold."""
    return Filter(
        tenant=tenant, limit=limit, words=asked.get("q"), status=_state(asked.get("status")),
        workflow_id=asked.get("workflow"), version=_number(asked.get("version")), business_key=asked.get("key"),
        lane=asked.get("lane"), since=_since(asked.get("since")), late="late" in asked, stuck="stuck" in asked,
        before=queries.before(asked.get("cursor")),
    )  # fmt: skip


def _state(name: str | None) -> str | None:
    if name is not None and name not in INSTANCE_STATES:
        raise BadRequest(f"there is no state {name!r}; known: {', '.join(INSTANCE_STATES)}")
    return name


def _since(text: str | None) -> str | None:
    if text is not None:
        moment("since", text)
    return text


def _number(text: str | None) -> int | None:
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadRequest(f"version: {text!r} is not a version's number")
    return int(text) if text else None
