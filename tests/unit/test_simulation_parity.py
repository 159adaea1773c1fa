"""The simulation's store is a model of the real one: the same schedules come to the same on both, commit by commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from orchestrator.rows import Entry, Header, Row
from orchestrator.store.database import Database
from tests import servers
from tests.unit.simulation import definitions
from tests.unit.simulation.choices import Choices
from tests.unit.simulation.mutations import Mutation
from tests.unit.simulation.schedule import Schedule
from tests.unit.simulation.service import Effect
from tests.unit.simulation.stored import InOrder, Store, StoredWorld, rows_in_order
from tests.unit.simulation.swift import swiftly
from tests.unit.simulation.worker import on_its_clock
from tests.unit.simulation.world import Key, Message, World

pytestmark = pytest.mark.integration

SCHEDULES = 300
EXERCISED = (
    "message republished", "lease lost", "the lease could not be looked up", "wait past its deadline",
    "instance past its deadline", "a commit failed", "the answer to a commit was lost", "forged message",
    "dispatcher dies between commit and publish", "killed when sent", "request lands late",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class State:
    """What stands after a commit."""

    header: Header
    rows: dict[Key, Row]
    entries: list[Entry]  # that came with it
    origin: str


@dataclass(frozen=True, kw_only=True)
class Flown:
    states: list[State]
    end: tuple[dict[Key, Row], list[Message], dict[str, Any], list[Effect]]  # rows, messages, loops' items, the ledger
    taken: list[int]
    faults: Counter[str]


@pytest.fixture(scope="module")
def store(postgres_server: str, database_template: str) -> Iterator[Store]:
    with (
        servers.database(postgres_server, template=database_template) as url,
        closing(Database(url, pool_size=1)) as database,
        rows_in_order(),
    ):
        found = Store(database)
        found.install()
        yield found


def fly(world_of: Callable[..., World], choices: Choices) -> Flown:
    schedule = Schedule.of(definitions.plan(choices), choices, world_of=world_of)
    world, judged, states = schedule.world, schedule.world.on_commit, list[State]()

    def committed(world: World, before: Header, entries: list[Entry], origin: str) -> None:
        states.append(State(header=world.header, rows=dict(world.rows), entries=entries, origin=origin))
        judged(world, before, entries, origin)

    world.on_commit = committed
    schedule.fly()
    end = (world.rows, world.broker, world.listed, world.service.ledger)
    return Flown(states=states, end=end, taken=choices.taken, faults=world.faults)


def fly_twice(store: Store, seed: str) -> tuple[Flown, Flown]:
    """On the model and on the store."""
    store.clear()
    with swiftly(), on_its_clock():
        model = fly(InOrder, Choices.seeded(seed))
        return model, fly(partial(StoredWorld, store=store), Choices.of(model.taken))


def difference(model: Flown, real: Flown) -> str | None:
    for at, (modelled, stored) in enumerate(zip(model.states, real.states, strict=False)):
        if modelled != stored:
            return f"after commit {at + 1}:\nmodel {modelled}\nstore {stored}"
    return None if model == real else f"at the end:\nmodel {model.end}\nstore {real.end}"


@pytest.mark.timeout(900)
def test_the_model_of_the_store_does_what_the_store_does(store: Store) -> None:
    faults: Counter[str] = Counter()
    for number in range(SCHEDULES):
        model, real = fly_twice(store, f"parity:{number}")
        found = difference(model, real)
        assert found is None, f"schedule {number}: {found}"
        faults += model.faults
    assert not [one for one in EXERCISED if not faults[one]], faults


# -- that they are compared

DIFFERENT = (
    Mutation("a lease is extended beyond the limit", World, "extend",
             "min(later(self.now, LEASE), row.limit_until)", "later(self.now, LEASE)"),
    Mutation("whoever is asked for extends all leases", World, "extend", "row.worker == worker", "True"),
    Mutation("what is not due yet is published", World, "_is_to_be_published", "row.ready_at <= self.now", "True"),
    Mutation("what is suspended is published", World, "_is_to_be_published", "self.header.suspended_at is None", "True"),
    Mutation("a message is taken for lost at once", World, "republish", "-GRACE", "0.0"),
    Mutation("a lease that has run out is renewed", World, "renew", "row.lease_until <= self.now", "False"),
    Mutation("every wait is past its deadline", World, "has_overdue", "row.due_at <= self.now", "True"),
    Mutation("a deadline is passed twice", World, "is_past_deadline", "not header.outcome", "True"),
    Mutation("a commit that failed has landed", World, "transition", "if not is_undone:", "if True:"),
)  # fmt: skip


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutation", DIFFERENT, ids=lambda one: one.says.replace(" ", "-"))
def test_a_model_that_does_something_else_is_noticed(store: Store, mutation: Mutation) -> None:
    with mutation.planted():
        assert any(difference(*fly_twice(store, f"parity:{number}")) for number in range(SCHEDULES))
