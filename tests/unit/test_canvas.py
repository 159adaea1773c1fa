"""Canvases, compiled and sent over a broker in memory, so that each message is read as it looks on the wire.

The legs are flown by an instance in memory: what the canvas promises to carry on is compared with what it then sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, Task, _state
from celery.app.trace import build_tracer
from celery.canvas import Signature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu import Connection

from orchestrator import approvals, calls, canvas, control, protocol, states
from orchestrator.approvals import Answer
from orchestrator.calls import Result
from orchestrator.definition import BranchesStep, ServiceStep, Step
from orchestrator.plan import Leg
from tests.unit.flying import DONE, TRUE, Flight, block, gate, plan_of, reply, service

QUEUES = ("legs", "others")


class Sky:
    """An app on a broker in memory, and one flight whose legs it runs in this thread."""

    def __init__(
        self, app: Celery, connection: Connection, flight: Flight, skipped: frozenset[str] = frozenset()
    ) -> None:
        self.app, self.connection, self.flight, self.skipped = app, connection, flight, skipped
        self.sent: list[str] = []  # the starts of legs, as their messages came
        self.covered: dict[str, frozenset[str]] = {}
        self.nudges = 0
        self.failing: frozenset[str] = frozenset()
        self._tracers = {
            task.name: build_tracer(task.name, task, app=app) for task in (self._leg(), self._compensate())
        }

    def _leg(self) -> Task:
        @self.app.task(name=canvas.LEG, bind=True, shared=False)  # type: ignore[untyped-decorator]
        def leg(task: Task, wave: list[str], *, version: str, start: str) -> list[str]:
            assert (wave, version) == (["i"], "v")
            self.sent.append(start)
            self.covered[start] = canvas.covered(task.request)
            survivors = ["i"] if self._run(start) else []
            canvas.steer(task, survivors)
            if start in self.failing:
                raise RuntimeError("all of its wave has failed")
            return survivors

        return leg

    def _compensate(self) -> Task:
        @self.app.task(name=canvas.COMPENSATE, bind=True, shared=False)  # type: ignore[untyped-decorator]
        def compensate(_: Task, *__: object, **___: object) -> None:
            self.nudges += 1

        return compensate

    def _run(self, start: str) -> bool:
        """Whether the leg that starts here leaves something READY that its canvas carries on to."""
        covered, before = self.covered[start], self.flight.rows
        leg = self.flight.plan.segment(start)[0]
        assert isinstance(leg, Leg)
        assert leg.steps[0] == start
        for step in leg.steps:
            attempt = self.flight.claim(step)
            if attempt is not None:
                self.flight.land(attempt, self._result(step), covered=covered)
        return any(row.state == states.READY and row.step in covered and before.get(row.key) != row
                   for row in self.flight.rows.values())  # fmt: skip

    def _result(self, step: str) -> Result:
        found = self.flight.plan.place(step).step
        if step in self.failing:
            return reply("rejected")
        if found.when is not None and step in self.skipped:
            return calls.Skipped()
        if isinstance(found, BranchesStep):
            return control.Opened()
        assert isinstance(found, ServiceStep)
        return DONE if found.operation else calls.Waits()

    # -- the broker

    def send(self, start: str) -> None:
        self.flight.on(start, lambda instance, row: instance.amend(row, published_at=instance.now))
        canvas.compile(self.app, self.flight.plan, "v", start).apply_async((["i"],), queue=self.flight.row(start).queue)

    def deliver(self) -> None:
        """Run all messages, and what they send."""
        while any(self._deliver_one(queue) for queue in (*QUEUES, "celery")):
            pass

    def _deliver_one(self, queue: str) -> bool:
        message = self.connection.default_channel.basic_get(queue, no_ack=True)
        if message is None:
            return False
        assert message.headers[protocol.HEADER] == protocol.WRITES, "whatever Celery made of the canvas"
        args, kwargs, embedded = message.decode()
        request = {**message.headers, **embedded, "args": args, "kwargs": kwargs, "delivery_info": {}, "hostname": "w1"}
        self._tracers[message.headers["task"]](message.headers["id"], args, kwargs, request)
        return True

    def fly(self) -> None:
        """Dispatch what no message carries, deliver, decide what waits, until it has ended."""
        while not states.is_terminal(self.flight.status):
            if ready := [
                row.step for row in self.flight.rows.values() if row.state == states.READY and row.published_at is None
            ]:
                self.send(ready[0])
            elif waiting := [row.step for row in self.flight.rows.values() if row.state == states.WAITING]:
                self.flight.on(waiting[0], approvals.decide, answer=Answer(decision="approved"))
            else:
                lost = [row.step for row in self.flight.rows.values() if row.state == states.READY]
                raise AssertionError(f"no message carries {lost}, but they were born published")
            self.deliver()


@contextmanager
def sky(*steps: Step, skipped: frozenset[str] = frozenset(), failing: frozenset[str] = frozenset()) -> Iterator[Sky]:
    app = Celery(f"sky-{uuid4()}", broker="memory://", backend=canvas.JoinBackend, set_as_current=False)
    app.conf.update(task_ignore_result=True, task_allow_error_cb_on_chord_header=True, task_default_queue="celery")
    before = _state._tls.current_app
    _state._set_current_app(app)  # as in a worker: a group that comes in a message has forgotten its app
    with app.connection_for_write() as connection:
        for queue in (*QUEUES, "celery"):
            connection.default_channel.queue_declare(queue)
            connection.default_channel.queue_purge(queue)
        found = Sky(app, connection, Flight.of(*steps), skipped)
        found.failing = failing
        try:
            yield found
        finally:
            _state._set_current_app(before)
            app.close()


def compiled(*steps: Step, start: str | None = None) -> Signature:
    plan = plan_of(*steps)
    app = Celery("shapes", set_as_current=False)
    return canvas.compile(app, plan, "v", start or plan.first)


def shape(signature: Any) -> Any:
    """`[…]` a chain, `{…}` a group, `({…}, body)` a chord."""
    if signature["task"] == "celery.chain":
        return [shape(one) for one in signature["kwargs"]["tasks"]]
    if signature["task"] == "celery.group":
        return {"group": [shape(one) for one in signature["kwargs"]["tasks"]]}
    if signature["task"] == "celery.chord":
        header = signature["kwargs"]["header"]
        return {
            "chord": [shape(one) for one in getattr(header, "tasks", header)],
            "body": shape(signature["kwargs"]["body"]),
        }
    return signature["kwargs"]["start"]


# -- shapes


def test_one_leg_is_a_single_message_on_its_queue() -> None:
    found = compiled(service("a", "other.a"), service("b", "other.b"))
    assert (found["task"], shape(found), found.options["queue"]) == (canvas.LEG, "a", "others")


def test_legs_on_other_queues_are_a_chain_and_each_keeps_its_queue() -> None:
    found = compiled(service("a"), service("b", "other.b"), service("c"))
    assert shape(found) == ["a", "b", "c"]
    assert [one.options["queue"] for one in found.tasks] == ["legs", "others", "legs"]


def test_a_block_with_a_successor_is_a_chord_and_one_without_a_group() -> None:
    par = block("par", (service("b"), service("c", "other.c")), service("d"))
    assert shape(compiled(service("a"), par, service("e"))) == ["a", {"chord": [["b", "c"], "d"], "body": "e"}]
    assert shape(compiled(service("a"), par)) == ["a", {"group": [["b", "c"], "d"]}]


def test_a_pause_cuts_the_canvas() -> None:
    assert shape(compiled(service("a"), gate("b"), service("c"))) == "a"
    par = block("par", (gate("b"), service("c")), service("d"))
    assert shape(compiled(service("a"), par, service("e"))) == ["a", {"chord": ["b", "d"], "body": "e"}]


def test_a_block_at_the_end_of_a_branch_is_left_to_the_dispatcher() -> None:
    inner = block("inner", service("c"), service("d"))
    found = shape(compiled(service("a"), block("par", (service("b"), inner), service("e")), service("f")))
    assert found == ["a", {"chord": ["b", "e"], "body": "f"}]


def test_the_signatures_are_mutable_and_hold_no_ids() -> None:
    found = compiled(service("a"), block("par", service("b"), service("c")), service("d"))
    assert not found.immutable
    assert "instance" not in str(dict(found))


# -- on the wire


@pytest.mark.parametrize(("steps", "sent", "covered"), [
    ((service("a"), service("b", "other.b"), service("c")), ["a", "b", "c"], {"a": "b", "b": "c", "c": ""}),
    ((service("a"), block("p", service("b"), service("c")), service("d")), ["a", "b", "c", "d"],
     {"a": "bc", "b": "d", "c": "d", "d": ""}),
    ((service("a"), block("p", (service("b"), service("c", "other.c")), service("d")), service("e"), service("f", "other.f")),
     ["a", "b", "d", "c", "e", "f"], {"a": "bd", "b": "c", "c": "e", "d": "e", "e": "f", "f": ""}),
    ((service("a"), block("p", service("b"), service("c"))), ["a", "b", "c"], {"a": "bc", "b": "", "c": ""}),
    ((service("a"), block("p", service("b"), service("c")), block("q", service("d"), service("e")), service("f")),
     ["a", "b", "c", "d", "e", "f"], {"a": "bc", "b": "de", "c": "de", "d": "f", "e": "f", "f": ""}),
    ((service("a"), block("p", service("b"), service("c")), block("q", service("d"), service("e"))),
     ["a", "b", "c", "d", "e"], {"a": "bc", "b": "de", "c": "de", "d": "", "e": ""}),
    ((service("a"), block("p", block("q", service("b"), service("c")), service("d")), service("e")),
     None, {"a": "d", "d": "e", "e": ""}),
    ((service("a"), block("p", (service("b"), block("q", service("c"), service("d")), service("e")), service("f")), service("g")),
     None, {"a": "bf", "b": "cd", "c": "e", "d": "e", "e": "g", "f": "g", "g": ""}),
])  # fmt: skip
def test_a_leg_knows_from_its_message_which_steps_follow_it(
    steps: tuple[Step, ...], sent: list[str] | None, covered: dict[str, str]
) -> None:
    with sky(*steps) as found:
        found.fly()
        assert found.flight.status == "COMPLETED"
        assert {name: "".join(sorted(found.covered[name])) for name in covered} == covered
        assert sent is None or sorted(found.sent) == sorted(sent)
        assert len(found.sent) == len(set(found.sent)), "no leg is sent twice"


def test_what_follows_a_leg_that_parks_is_not_sent() -> None:
    with sky(service("a"), block("p", service("b", pause=True), service("c")), service("d")) as found:
        found.send("a")
        found.deliver()
        assert (found.flight.status, found.sent) == ("WAITING", ["a", "b", "c"])
        found.fly()
        assert found.sent == ["a", "b", "c", "d"]


def test_a_block_that_is_gone_around_sends_no_branch() -> None:
    par = block("p", service("b", "other.b"), service("c"), when=TRUE)
    with sky(service("a"), par, service("d"), skipped=frozenset("p")) as found:
        found.fly()
        assert (found.sent, found.flight.state("d")) == (["a", "d"], "SUCCEEDED")


def test_a_leg_whose_wave_has_failed_sends_a_nudge_and_nothing_else() -> None:
    with sky(
        service("a"), block("p", service("b"), service("last")), service("d"), failing=frozenset({"last"})
    ) as found:
        found.send("a")
        found.deliver()
        assert found.nudges >= 1
        assert "d" not in found.sent
        assert found.flight.status == "FAILED"


def test_the_join_backend_sends_no_body_for_a_branch_that_failed_or_was_not_the_last() -> None:
    app = Celery("join", broker="memory://", backend=canvas.JoinBackend, set_as_current=False)
    for state, result in (("FAILURE", ["i"]), ("SUCCESS", []), ("SUCCESS", None)):
        app.backend.on_chord_part_return(object(), state, result)  # an empty request: to read it would raise
    assert app.backend._get_task_meta_for("any")["status"] == "PENDING"


def test_a_wave_without_survivors_is_carried_no_further() -> None:
    class Request:
        chain: object = "chain"
        chord: object = "chord"

    class Fake:
        request = Request()

    canvas.steer(Fake(), ["i"])
    assert (Fake.request.chain, Fake.request.chord) == ("chain", "chord")
    canvas.steer(Fake(), [])
    assert (Fake.request.chain, Fake.request.chord) == (None, None)


@st.composite
def sequences(draw: st.DrawFn, prefix: str = "s", depth: int = 3) -> tuple[Step, ...]:
    steps: list[Step] = []
    for at in range(draw(st.integers(1, 3))):
        name, when = f"{prefix}{'abc'[at]}", draw(st.sampled_from((None, None, TRUE)))
        if depth and draw(st.booleans()):
            branches = [draw(sequences(f"{name}{branch}", depth - 1)) for branch in range(draw(st.integers(2, 3)))]
            steps.append(block(name, *branches, when=when))
        else:
            lane = draw(st.sampled_from(("key", "other")))
            steps.append(
                service(name, f"{lane}.x", when=when, pause=draw(st.sampled_from((False, False, False, True))))
            )
    return tuple(steps)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(sequences(), st.randoms(use_true_random=False))
def test_every_step_that_is_born_published_is_carried_by_a_message_and_each_leg_is_sent_once(
    steps: tuple[Step, ...], chance: Any
) -> None:
    names = [name for name in plan_of(*steps).ids if chance.random() < 0.4]
    with sky(*steps, skipped=frozenset(names)) as found:
        found.fly()
        assert found.flight.status == "COMPLETED"
        assert len(found.sent) == len(set(found.sent))
