"""Dead letters: what comes over the broker and no task can take is kept, counted and shown, and never comes round for ever.

A table, not a queue of the broker's: Redis has none, a wiped broker forgets, and here both are listed alike (ADR 0012).
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from kombu import Message

from orchestrator.lanes import body
from orchestrator.store import database
from orchestrator.store import dead_letters as store
from orchestrator.store.dead_letters import Letter
from orchestrator.system import System

Reason: TypeAlias = Literal[
    "undecodable",  # its bytes, its content type, or its parts are not what a message of ours is made of
    "unknown_task",  # it names a task that nobody here has
    "not_a_task",  # it names none
    "invalid",  # it is made for a task of ours, which cannot be called so
    "no_definition",  # it names a version or a step that no definition has
    "raised",  # the task has raised: a message of the same kind would meet it again
    "unfit_event",  # a landed event that is no answer
    "refused",  # an answer that was too late, decided otherwise, or had no right
    "redelivered",  # a hint that came back so often that it probably ends the workers that take it
]
SAMPLE = 4_000  # characters of a message that are kept
DELIVERIES = 20  # times that a hint may come back
OLDEST = 30 * 86_400.0  # seconds that a letter is kept: it may hold what belongs to tenants
# What opens a wait is no evidence: a token is not kept.
SECRET = re.compile(r"""((?:token|authorization)[\\"']*\s*[:=]\s*[\\"']*(?:bearer\s+)?)[\w.~-]{8,}""", re.IGNORECASE)

log = logging.getLogger(__name__)


def keep(
    system: System, reason: Reason, *, queue: str, error: str, content: bytes | str, size: int | None = None
) -> None:
    """Keep what cannot be used. Waits for nothing and raises nothing: a thread of the worker writes it down (`flush`).

    `size` is in bytes, where `content` is only the beginning.
    """
    letter = Letter(
        reason=reason, queue=body.printable(queue), error=body.printable(error), content=sample(content),
        size=len(content) if size is None else size, worker=system.worker,
    )  # fmt: skip
    log.warning("a dead letter on queue %s: %s: %s", queue, reason, letter.error)
    system.letterbox.drop(letter)


def flush(system: System) -> int:
    """Write down what waits. Returns how many; done again and again by every worker."""
    letters = system.letterbox.take()
    left = _write(system, letters)
    system.letterbox.give_back(left)
    return len(letters) - len(left)


def _write(system: System, letters: Sequence[Letter]) -> Sequence[Letter]:
    """All in one transaction; one that Postgres will not have costs itself alone. Returns those that wait for Postgres."""
    if not letters:
        return ()
    try:
        with system.database.transaction() as connection:
            store.put(connection, letters)
    except Exception as error:  # noqa: BLE001  # a letter more or less ends nobody's timer
        if database.is_away(error):
            log.warning("%d dead letters wait for the database: %s", len(letters), database.told(error))
            return letters
        if len(letters) > 1:
            return [left for one in letters for left in _write(system, [one])]
        log.warning("a dead letter cannot be written: %s", database.told(error))
    return ()


def tend(system: System) -> int:
    """Delete what is old. Returns how many letters."""
    older_than = min(OLDEST, system.settings.retention or OLDEST)
    with system.database.transaction() as connection:
        return store.forget(connection, older_than=older_than)


def is_worn_out(system: System, message: str, *, queue: str) -> bool:
    """Whether a message that was delivered again has come back so often that nothing but harm is to be expected of it: then
    it is kept as a letter. `message`: its id.

    Only for hints, which Postgres says again: an answer may be known nowhere else. The count is committed before anything
    else is done: whoever dies of it has counted.
    """
    try:
        with system.database.transaction() as connection:
            times = store.came_back(connection, hashlib.sha256(message.encode("utf-8", "replace")).hexdigest())
    except Exception as error:  # noqa: BLE001  # not known: then it is taken like any other
        log.warning("a delivery cannot be counted: %s", database.told(error))
        return False
    if times > DELIVERIES:
        told = f"it came back {times} times: does it end the workers that take it?"
        keep(system, "redelivered", queue=queue, error=told, content=message)
    return times > DELIVERIES


def bury(system: System, message: Message, reason: Reason, error: str) -> None:
    queue = (message.delivery_info or {}).get("routing_key") or "?"
    content = _content(message)
    told = content[: SAMPLE // 2] + b"\nheaders: " + repr(message.headers).encode("utf-8", "replace")
    keep(system, reason, queue=str(queue), error=error, content=told, size=len(content))


def _content(message: Message) -> bytes:
    content = message.body
    return content if isinstance(content, bytes) else str(content).encode("utf-8", "replace")


def sample(content: bytes | str) -> str:
    """The beginning of a message, as text that Postgres can keep and that opens nothing."""
    text = content[: SAMPLE * 4].decode("utf-8", "replace") if isinstance(content, bytes) else content
    clean = SECRET.sub(r"\1…", text[: SAMPLE * 2])[:SAMPLE]
    return clean.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
