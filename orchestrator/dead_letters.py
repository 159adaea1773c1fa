"""Dead letters: what comes over the broker and no task can take is kept, counted and shown, and never comes round for ever.

A table, not a queue of the broker's: Redis has none, a wiped broker forgets, and here both are listed alike (ADR 0012).
"""

from __future__ import annotations

import hashlib
import logging
import re
from typing import Literal, TypeAlias

from kombu import Message

from orchestrator.lanes import body
from orchestrator.store import dead_letters
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
    "redelivered",  # it came back so often that it probably ends the workers that take it
]
SAMPLE = 4_000  # characters of a message that are kept
DELIVERIES = 20  # times that a message may come back
# What opens a wait is no evidence: a token is not kept.
SECRET = re.compile(r"""((?:token|authorization)[\\"']*\s*[:=]\s*[\\"']*(?:bearer\s+)?)[\w.~-]{8,}""", re.IGNORECASE)

log = logging.getLogger(__name__)


def keep(
    system: System, reason: Reason, *, queue: str, error: str, content: bytes | str, size: int | None = None
) -> None:
    """Keep what cannot be used. Raises nothing: while the database is away it waits in this process, for a while.

    `size` is in bytes, where `content` is only the beginning.
    """
    letter = Letter(
        reason=reason, queue=body.printable(queue), error=body.printable(error), content=sample(content),
        size=len(content) if size is None else size, worker=system.worker,
    )  # fmt: skip
    system.unkept.append(letter)
    log.warning("a dead letter on queue %s: %s: %s", queue, reason, letter.error)
    flush(system)


def flush(system: System) -> int:
    """Write down what waits. Returns how many."""
    written = 0
    while (letter := _next(system)) is not None:
        try:
            with system.database.transaction() as connection:
                dead_letters.put(connection, letter)
        except Exception as error:  # noqa: BLE001  # a letter more or less ends nobody's consumer
            system.unkept.appendleft(letter)
            log.warning("%d dead letters wait for the database: %s", len(system.unkept), body.described(error))
            break
        written += 1
    return written


def _next(system: System) -> Letter | None:
    """Taken out before it is written: several threads write at once, and each has one of its own."""
    try:
        return system.unkept.popleft()
    except IndexError:
        return None


def tend(system: System) -> None:
    """Done again and again by a timer of every worker."""
    flush(system)
    with system.database.transaction() as connection:
        dead_letters.forget(connection)


def is_worn_out(system: System, message: Message) -> bool:
    """Whether a message has come back so often that nothing but harm is to be expected of it: then it is kept as a letter.

    The count is committed before anything else is done with the message: whoever dies of it has counted.
    """
    if not is_redelivered(message):
        return False
    try:
        with system.database.transaction() as connection:
            times = dead_letters.came_back(connection, identity(message))
    except Exception as error:  # noqa: BLE001  # not known: then it is taken like any other
        log.warning("a delivery cannot be counted: %s", body.described(error))
        return False
    if times > DELIVERIES:
        bury(system, message, "redelivered", f"it came back {times} times: does it end the workers that take it?")
    return times > DELIVERIES


def bury(system: System, message: Message, reason: Reason, error: str) -> None:
    queue = (message.delivery_info or {}).get("routing_key") or "?"
    content = _content(message)
    told = content[: SAMPLE // 2] + b"\nheaders: " + repr(message.headers).encode("utf-8", "replace")
    keep(system, reason, queue=str(queue), error=error, content=told, size=len(content))


def _content(message: Message) -> bytes:
    content = message.body
    return content if isinstance(content, bytes) else str(content).encode("utf-8", "replace")


def is_redelivered(message: Message) -> bool:
    said = message.delivery_info or {}
    return bool(said.get("redelivered") or (isinstance(message.headers, dict) and message.headers.get("redelivered")))


def identity(message: Message) -> str:
    """The same at every delivery: a task's id, or a digest of what has none."""
    found = message.headers.get("id") if isinstance(message.headers, dict) else None
    if isinstance(found, str) and 0 < len(found) <= 100 and "\0" not in found:
        return found
    return hashlib.sha256(_content(message)).hexdigest()


def sample(content: bytes | str) -> str:
    """The beginning of a message, as text that Postgres can keep and that opens nothing."""
    text = content[: SAMPLE * 4].decode("utf-8", "replace") if isinstance(content, bytes) else content
    clean = SECRET.sub(r"\1…", text[: SAMPLE * 2])[:SAMPLE]
    return clean.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
