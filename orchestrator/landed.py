"""Answers that come over the broker: landed CloudEvents, and the results of Celery lanes. Both are callbacks.

What is wrong with an answer is logged and the message is done with: it would be as wrong the next time. What is wrong
with us, a database that is away, is waited out with the message still unacknowledged.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from orchestrator import callbacks, dead_letters
from orchestrator.errors import BadRequest, OrchestratorError, TooLarge
from orchestrator.lanes import body
from orchestrator.lanes.celery import token_of
from orchestrator.lanes.exchanges import LANDED_QUEUE
from orchestrator.payloads import check_storable
from orchestrator.store.database import is_away, told
from orchestrator.system import System

DATABASE_AWAY = 0.5  # seconds between two tries
KNOWN = ("trace", "step", "token", "callbackUrl", "decision", "result", "error", "comment")

log = logging.getLogger(__name__)


class Stopped(Exception):
    """The process ends before the answer could be recorded: whoever has the message must give it back."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a message says about a step that waits."""

    trace: str
    step: str
    token: str
    by: str
    decision: str | None = None
    result: Any = None
    error: str | None = None
    comment: str | None = None
    uncertain: bool = False  # a failure that does not say that nothing was done


class Unfit(ValueError):  # as errors.py names its own
    """A message that is no answer; its text says why."""


def land(system: System, answer: Answer, *, queue: str = LANDED_QUEUE, content: bytes | None = None) -> bool:
    """Settle a step by a message. Returns whether the decision stands; raises Stopped, and nothing else.

    An answer of a step that was decided, escalated or ended meanwhile changes nothing. `content`: the message, where it
    says more than the answer.
    """
    told = content if content is not None else json.dumps({**vars(answer), "token": "…"}, default=repr)
    try:
        _surely(system, lambda: _decide(system, answer))
    except OrchestratorError as error:
        dead_letters.keep(system, "refused", queue=queue, error=f"by {answer.by}: {error}", content=told)
        return False
    except Stopped:
        raise
    except Exception as error:  # a bug of ours: the same message would meet it again and again
        log.exception("an answer by %s for %s of %s", answer.by, answer.step, answer.trace)
        dead_letters.keep(system, "raised", queue=queue, error=body.described(error), content=told)
        return False
    return True


def _decide(system: System, answer: Answer) -> None:
    callbacks.decide(
        system, trace=answer.trace, step=answer.step, token=answer.token, tenant=None, decision=answer.decision,
        result=answer.result, error=answer.error, comment=answer.comment, by=answer.by, uncertain=answer.uncertain,
    )  # fmt: skip


def _surely(system: System, action: Callable[[], None]) -> None:
    while not system.stopping.is_set():
        try:
            return action()
        except Exception as error:
            if not is_away(error):
                raise
            log.warning("an answer waits for the database: %s", told(error))
            system.stopping.wait(DATABASE_AWAY)
    raise Stopped


# Celery lanes


def succeeded(system: System, result: Any, *, trace: str, step: str, token: str) -> bool:
    """A task has returned. A result that cannot be kept fails the step, which is undone as if done: it was."""
    try:
        kept = written(result)
        check_storable([kept, None, None], "the reply", system.settings.max_payload)  # as `callbacks` will
    except (body.Unreadable, BadRequest, TooLarge) as error:
        return failed(system, f"the task was carried out, but {error}", trace=trace, step=step, token=token)
    done = Answer(trace=trace, step=step, token=token, by="celery", decision="approved", result=kept)
    return land(system, done)


def failed(system: System, error: str, *, trace: str, step: str, token: str) -> bool:
    """A task has failed. Celery says so as well when a worker was killed in the midst of one, or when only its result
    could not be sent: so the step is undone as if it had been done."""
    said = Answer(trace=trace, step=step, token=token, by="celery", decision="rejected",
                  error=body.printable(error), uncertain=True)  # fmt: skip
    return land(system, said)


def written(result: Any) -> Any:
    """JSON of what Celery's own JSON can carry besides: times, UUIDs and decimals become text. Raises Unreadable."""
    try:
        return body.read(json.dumps(result, allow_nan=False, ensure_ascii=False, default=_text).encode())
    except RecursionError as error:
        raise body.Unreadable(f"the reply is nested deeper than {body.DEEPEST}") from error
    except body.Unreadable:
        raise
    except (TypeError, ValueError) as error:
        raise body.Unreadable(f"the reply is not JSON: {error}") from error


def _text(value: Any) -> str:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


# CloudEvents


def read(content: bytes) -> Answer:
    """The answer in a structured CloudEvent. Raises Unfit."""
    try:
        event = body.read(content)
    except body.Unreadable as error:
        raise Unfit(str(error).replace("the reply", "the event")) from error
    if not isinstance(event, dict) or event.get("specversion") != "1.0":
        raise Unfit("it is not a CloudEvent 1.0 in structured JSON mode")
    data = event.get("data")
    if not isinstance(data, dict):
        raise Unfit(f"its `data` has to be an object with {', '.join(KNOWN)}")
    return _answer(data, by=f"event {body.printable(str(event.get('source', '?')))[:200]}")


def _answer(data: Mapping[str, Any], by: str) -> Answer:
    given = {name: data[name] for name in KNOWN if data.get(name) is not None}
    if wrong := [name for name, value in given.items() if name != "result" and not isinstance(value, str)]:
        raise Unfit(f"its data's {', '.join(wrong)} must be text")
    token = given.pop("token", None) or token_of(given.get("callbackUrl"))
    given.pop("callbackUrl", None)
    if token is None or "trace" not in given or "step" not in given:
        raise Unfit("its data needs `trace`, `step` and the callback `token` (or the `callbackUrl` as it was given)")
    return Answer(token=token, by=by, **given)
