"""Bugs to be planted: the campaign has to report each of them, or it would report nothing.

Each is planted in every process of a campaign, by replacing one function; the shape that shows it is named beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator import attempts, children, flow, publisher, sweep
from orchestrator.attempts import Attempt
from orchestrator.instance import Instance
from orchestrator.rows import Row
from orchestrator.store import due, family, outbox
from orchestrator.system import System
from tests.chaos.crashpoints.planting import plant


def attempt_in_the_key() -> None:
    """A repeat of a call is another call to the service."""
    key: Any = vars(Attempt)["key"].fget
    plant(Attempt, "key", property(lambda one: key(one) if one.attempt == 1 else f"{key(one)}:{one.attempt}"))


def no_republish() -> None:
    """A message that died with its dispatcher is never sent again."""
    plant(sweep, "republish", lambda _: 0)


def no_lost_leases() -> None:
    """A step whose worker died stays with it."""
    plant(due, "lost_instances", lambda *_: [])


def blind_repeat() -> None:
    """What may have been done is done again on a lane that can neither be asked nor told."""

    def again(instance: Instance, row: Row, *, reason: str, error: str | None) -> None:
        instance.move(row, "lose", reason=reason, error=error, due_at=instance.now, published_at=None)

    plant(attempts, "doubt", again)


def told_too_early() -> None:
    """A child is marked as told before its parent has learned of it."""
    tell = children._tell_parent

    def early(system: System, child: family.Ended) -> None:
        with system.database.transaction() as connection:
            family.told(connection, child)
        tell(system, child)

    plant(children, "_tell_parent", early)


def sent_too_early() -> None:
    """An event is marked as sent, and then it is sent."""
    send_all = publisher._send_all

    def publish(system: System) -> int:
        with system.database.transaction() as connection:
            unsent = outbox.take(connection, publisher.BATCH)
            outbox.sent(connection, [one.key for one in unsent])
        send_all(system, unsent)
        return len(unsent)

    plant(publisher, "publish", publish)


def join_counted_twice() -> None:
    """What follows a join begins when the first of its branches has ended."""
    arrive = flow._arrive

    def twice(instance: Instance, block: str) -> None:
        row = instance.row(block)
        assert row is not None
        instance.amend(row, branches_left=1)
        arrive(instance, block)

    plant(flow, "_arrive", twice)


# name → (the bug, the shape that shows it, what the report says of it)
BUGS: Mapping[str, tuple[Callable[[], None], str, str]] = {
    "attempt-in-the-key": (attempt_in_the_key, "sequence", "which no definition asks for"),
    "no-republish": (no_republish, "sequence", "stalled"),
    "no-lost-leases": (no_lost_leases, "sequence", "stalled"),
    "blind-repeat": (blind_repeat, "blind", "was had 2 times"),
    "told-too-early": (told_too_early, "subworkflow", "stalled"),
    "join-counted-twice": (join_counted_twice, "branches", "join-early"),
    "sent-too-early": (sent_too_early, "event", "nobody has heard it"),
}
