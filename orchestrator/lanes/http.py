"""HTTP lanes: `POST {url}/{operation}`, and `GET {url}/{operation}/{key}` to ask what became of a key.

The phases are kept apart because the outcome hangs on them: until the connection stands nothing
was sent (`not_sent`, `refused`); from the first byte on, whatever goes wrong is `uncertain` unless
the service says otherwise. One deadline bounds the attempt, however slowly the bytes drip; looking
up a name is the one thing that it cannot interrupt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlsplit

from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as ReadTimeout

from orchestrator.errors import Json
from orchestrator.lane import Call, Lane, Reply
from orchestrator.lanes import body, wire
from orchestrator.lanes.connections import Connection, Connections, Deadline

BUSY = frozenset({429, 503})  # the service says that it did nothing
DOUBTFUL = frozenset({408, 425})  # with 5xx: it may have been done
SHOWN = 300  # characters of a body that an error text shows


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A status and, unless `lost` says why not, the whole body."""

    status: int
    headers: Mapping[str, str]
    content: bytes = b""
    lost: str | None = None


def call(connections: Connections, lane: Lane, call: Call) -> Reply:
    """One attempt at an operation. Never raises for what the service or the network does."""
    # A kept connection may be closed by the other side just as the request leaves; where a
    # repeat is not harmless that doubt would park the step, so such lanes connect afresh.
    fresh = lane.idempotency == "none"
    request = Request(method="POST", url=_url(lane, call.operation), headers=_headers(call), content=_body(call))
    got = _exchange(connections, request, Deadline(call.timeout), fresh=fresh)
    return got if isinstance(got, Reply) else classify(got)


def ask(connections: Connections, lane: Lane, call: Call) -> Reply:
    """What became of the call's key. `not_sent`: it never arrived. `uncertain`: nobody could say."""
    request = Request(method="GET", url=_url(lane, call.operation, call.key), headers=_headers(call))
    got = _exchange(connections, request, Deadline(call.timeout))
    if isinstance(got, Reply):
        return Reply(outcome="uncertain", error=got.error, asked=True)
    if got.status == 404:
        return Reply(outcome="not_sent", error="the service knows nothing of this key", asked=True)
    reply = classify(got)
    if reply.outcome == "done":
        return replace(reply, asked=True)
    return Reply(outcome="uncertain", error=reply.error, retry_after=reply.retry_after, asked=True)


def _url(lane: Lane, *parts: str) -> str:
    """Only configuration says where to: what a definition adds is quoted into single path segments."""
    quoted = "/".join(
        quote(part, safe="").replace(".", "%2E") if set(part) == {"."} else quote(part, safe="") for part in parts
    )
    return f"{lane.url}/{quoted}"


def _body(call: Call) -> bytes:
    return json.dumps(wire.content(call), allow_nan=False).encode()


def _headers(call: Call) -> dict[str, str]:
    return {
        "Accept": "application/json",
        "Accept-Encoding": "identity",  # so that the cap on bytes is a cap on memory
        "Content-Type": "application/json",
        "User-Agent": "flight-orchestrator",
        **wire.headers(call),
    }


def _exchange(connections: Connections, request: Request, deadline: Deadline, *, fresh: bool = False) -> Answer | Reply:
    try:
        connection = connections.take(request.url, deadline, fresh=fresh)
    except (HTTPError, OSError) as error:
        return _not_connected(error, request.url)
    try:
        answer, reusable = _send(connection, request, deadline)
    except Exception as error:  # noqa: BLE001  # from here on anything that went wrong leaves a doubt
        connection.abort()
        return Reply(outcome="uncertain", error=_lost(error, deadline.allowed))
    connections.give_back(request.url, connection, reusable=reusable and not fresh)
    return answer


def _not_connected(error: Exception, url: str) -> Reply:
    refused = isinstance(error, ConnectionRefusedError) or (
        isinstance(error, NewConnectionError) and isinstance(error.__cause__, ConnectionRefusedError)
    )
    text = f"no connection to {urlsplit(url).netloc}: {body.described(error.__cause__ or error)}"
    return Reply(outcome="refused" if refused else "not_sent", error=text)


def _lost(error: Exception, timeout: float) -> str:
    if isinstance(error, (TimeoutError, ReadTimeout)):
        return f"no answer within {timeout:g} s"
    return f"the connection was lost after the request was sent: {body.described(error)}"


def _send(connection: Connection, request: Request, deadline: Deadline) -> tuple[Answer, bool]:
    """The answer, and whether the connection may be used again."""
    path = urlsplit(request.url).path
    response = connection.exchange(request.method, path, request.content, request.headers)
    lost: str | None = None
    parts: list[bytes] = []
    size = 0
    try:
        while size <= body.LARGEST and (part := response.read(65_536)):
            parts.append(part)
            size += len(part)
    except Exception as error:  # noqa: BLE001  # the status has arrived and stands; only the body is lost
        lost = _lost(error, deadline.allowed)
    finally:
        response.close()
    answer = Answer(status=response.status, headers=response.headers, content=b"".join(parts), lost=lost)
    return answer, lost is None and size <= body.LARGEST


def classify(answer: Answer) -> Reply:
    """The outcome that a status and a body mean (DESIGN, "Attempt outcomes")."""
    status = answer.status
    if status == 202:
        return Reply(outcome="done", later=True)
    if 200 <= status < 300:
        return _succeeded(answer)
    if status in BUSY:
        return Reply(outcome="refused", error=_error_text(answer), retry_after=retry_after(answer.headers))
    if status in DOUBTFUL or not 300 <= status < 500:
        return Reply(outcome="uncertain", error=_error_text(answer), retry_after=retry_after(answer.headers))
    if status < 400:
        return Reply(outcome="rejected", error=_redirect_text(answer))
    return Reply(outcome="rejected", error=_error_text(answer))


def _succeeded(answer: Answer) -> Reply:
    if answer.lost:
        return Reply(outcome="uncertain", error=f"HTTP {answer.status}, but the body is incomplete: {answer.lost}")
    if len(answer.content) <= body.LARGEST and not answer.content.strip():
        return Reply(outcome="done")
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        error = f"HTTP {answer.status}, but the reply is {encoding}-encoded although plain bytes were asked for"
        return Reply(outcome="uncertain", error=error)
    try:
        return Reply(outcome="done", output=body.read(answer.content))
    except body.Unreadable as error:
        return Reply(outcome="uncertain", error=f"HTTP {answer.status}, but {error}")


def _redirect_text(answer: Answer) -> str:
    to = answer.headers.get("Location", "an address that it does not name")
    return body.printable(
        f"HTTP {answer.status} to {to}: redirects are not followed; put the final address into the lane's `url`"
    )


def _error_text(answer: Answer) -> str:
    """`HTTP 422: …` with problem+json's detail or title, a JSON `error`/`message`, or the body's head."""
    said = _said(answer.content).strip()
    return body.printable(f"HTTP {answer.status}: {said}" if said else f"HTTP {answer.status}")


def _said(content: bytes) -> str:
    try:
        value: Json = body.read(content)
    except body.Unreadable:
        return content[: SHOWN * 4].decode("utf-8", "replace")[:SHOWN]
    if isinstance(value, dict):
        for name in ("detail", "error", "message", "title"):
            if isinstance(value.get(name), str):
                return str(value[name])
    return json.dumps(value, ensure_ascii=False)[:SHOWN]


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that `Retry-After` asks for, as a number or an HTTP date; none where it is absent or nonsense.

    A date is measured against the answer's own `Date` where it has one: both are the service's clock.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return body.wait(int(text[:12]))
    until = _http_date(text)
    if until is None:
        return None
    since = _http_date(headers.get("Date", "")) or now or datetime.now(UTC)
    return body.wait(max((until - since).total_seconds(), 0.0))


def _http_date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
