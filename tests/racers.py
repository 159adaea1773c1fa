"""What races for one wait: callbacks, contrary ones and cancels, and what each of them is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from orchestrator import callbacks, engine
from orchestrator.errors import Conflict, Gone
from orchestrator.tokens import Wait
from tests.services import Airport, Answer, Seen
from tests.tower import call

TIMEOUTS = {
    "fail": "onTimeout: fail",
    "escalate": "onTimeout: escalate, escalate: {to: keyed.deputy, timeout: 300d}",
    "skip": "onTimeout: skip",
    "decide": "onTimeout: {decide: rejected}",
}
# What comes after says who has decided: by an effect in the service's ledger.
RACE = """
id: race-{kind}
steps:
  - {{id: charge, service: keyed.charge, compensate: keyed.refund}}
  - {{id: approval, pause: true, onReject: continue, timeout: 1h, {timeout}}}
  - {{id: granted, service: keyed.granted, when: "has(steps.approval.decision) && steps.approval.decision == 'approved'"}}
  - {{id: declined, service: keyed.declined, when: "has(steps.approval.decision) && steps.approval.decision == 'rejected'"}}
  - {{id: passed, service: keyed.passed, when: "!has(steps.approval.decision)"}}
"""
HOUR = 3600.0  # seconds, after which the time of `approval` is up

Said = Literal["approved", "rejected", "cancel"]
Over = Literal["http", "function"]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one racer was told."""

    said: Said
    over: Over
    answer: Literal["made", "repeated", "conflict", "gone"]
    present: str | None = None  # with a conflict: who stands in the way


def define(airport: Airport) -> None:
    """A race a kind of deadline; the deputy that one of them escalates to approves at once."""
    for kind, timeout in TIMEOUTS.items():
        airport.define(RACE.format(kind=kind, timeout=timeout))
    airport.service.always("deputy", Answer(then=lambda seen: _approve(airport, seen)))


def _approve(airport: Airport, seen: Seen) -> None:
    """While it is still being told."""
    token = seen.body["callbackUrl"].partition("token=")[2]
    callbacks.decide(airport.system, trace=seen.body["trace"], step="approval", token=token, tenant=None,
                     decision="approved")  # fmt: skip


def say(airport: Airport, instance: str, said: Said, *, web: str | None = None) -> Told:
    """`web`: the address of the web server over which it is said; none: the function is called."""
    if said == "cancel":
        return _cancel(airport, instance)
    if web is None:
        return _decide(airport, instance, said)
    answer = call(link(airport, instance, web), {"decision": said})
    return _of_http(said, answer.status, answer.body)


def link(airport: Airport, instance: str, web: str) -> str:
    """Where the answer goes."""
    return f"{web}/callbacks/{instance}/approval?token={_token(airport, instance)}"


def _token(airport: Airport, instance: str) -> str:
    return airport.system.tokens.make(Wait(trace=instance, step="approval", phase="do", generation=1))


def _decide(airport: Airport, instance: str, said: Said) -> Told:
    try:
        decided = airport.decide(instance, "approval", token=_token(airport, instance), decision=said)
    except Conflict as error:
        return Told(said=said, over="function", answer="conflict", present=error.present)
    except Gone:
        return Told(said=said, over="function", answer="gone")
    return Told(said=said, over="function", answer="repeated" if decided.repeated else "made")


def _cancel(airport: Airport, instance: str) -> Told:
    try:
        airport.order(engine.cancel, instance)
    except Conflict as error:
        return Told(said="cancel", over="function", answer="conflict", present=error.present)
    return Told(said="cancel", over="function", answer="made")


def _of_http(said: Said, status: int, body: Any) -> Told:
    if status == 200:
        return Told(said=said, over="http", answer="repeated" if body["repeated"] else "made")
    if status == 409:
        return Told(said=said, over="http", answer="conflict", present=body["present"])
    assert status == 410, (status, body)
    return Told(said=said, over="http", answer="gone")
