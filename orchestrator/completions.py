"""Completions: the end of an instance is POSTed to the URL that was named at its start, until somebody takes it.

At least once, with the same `Idempotency-Key` each time; signed with a key of the tenant's, so that the receiver knows
who speaks. Only to hosts that an administrator has named.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from urllib.parse import urlsplit

from urllib3.exceptions import HTTPError
from urllib3.util.ssl_ import create_urllib3_context

from orchestrator.errors import InvalidCompletion, Problem
from orchestrator.lanes.body import described
from orchestrator.lanes.connections import Connection, Deadline
from orchestrator.settings import Settings
from orchestrator.store import completions
from orchestrator.store.completions import End
from orchestrator.system import System

BATCH = 32
TOGETHER = 8  # told at a time: a receiver that hangs holds up few others
TIMEOUT = 10.0  # seconds for one
LEASE = 60.0  # seconds after which one that was taken and not told is taken by somebody else
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 3600.0  # seconds between two tries
PATIENCE = 86400.0  # seconds after the end, then it is given up
LONGEST_URL = 2000  # characters
SIGNATURE = "X-Orchestrator-Signature"
PORTS = {"http": 80, "https": 443}


def check(settings: Settings, url: str) -> None:
    """Raises InvalidCompletion for a URL that ends may not be told to, with the mend."""
    if (why := _refused(settings, url)) is not None:
        raise InvalidCompletion([Problem(message=f"completionUrl: {why}", hint=_mend(settings))])


def _mend(settings: Settings) -> str:
    allowed = settings.webhook_hosts or "none"
    return f"an administrator names the hosts in ORCHESTRATOR_WEBHOOK_HOSTS; allowed: {allowed}"


def _refused(settings: Settings, url: str) -> str | None:
    try:
        at = urlsplit(url)
        port = at.port
    except ValueError as error:
        return str(error)
    if at.scheme not in PORTS or not at.hostname or not url.isascii() or not url.isprintable() or " " in url:
        return "it is not an absolute http or https URL"
    if at.username is not None or at.password is not None:
        return "it holds a password, which would be shown to everybody who may look"
    if len(url) > LONGEST_URL:
        return f"it has more than {LONGEST_URL} characters"
    place = at.hostname if port in (None, PORTS[at.scheme]) else f"{at.hostname}:{port}"
    return None if _is_allowed(place, settings.webhook_hosts or "") else f"{place} is not an allowed host"


def _is_allowed(place: str, hosts: str) -> bool:
    """`host`, `host:port`, or `*.domain` for all hosts below it."""
    for allowed in (one.strip().lower() for one in hosts.split(",")):
        if place == allowed or (allowed.startswith("*.") and place.endswith(allowed[1:])):
            return True
    return False


def deliver_all(system: System) -> None:
    """Tell what is due, batch after batch, for as long as anybody takes what is told."""
    while not system.stopping.is_set() and deliver(system):
        pass


def deliver(system: System) -> int:
    """Tell what is due. Returns how many were taken; what was not is told again later."""
    with system.database.transaction() as connection:
        due = completions.take(connection, limit=BATCH, lease=LEASE)
    if due:
        with ThreadPoolExecutor(TOGETHER, thread_name_prefix="completions") as pool:
            return sum(pool.map(lambda end: _deliver(system, end), due))
    return 0


def _deliver(system: System, end: End) -> bool:
    error = _refused(system.settings, end.url) or _post(system, end)
    with system.database.transaction() as connection:
        if error is None:
            completions.told(connection, end)
        else:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(end.tries - 1, 20))
            completions.not_told(connection, end, error=error, pause=pause, patience=PATIENCE)
    return error is None


def _post(system: System, end: End) -> str | None:
    """What went wrong, or None. A redirect is not followed: it would lead where nobody has allowed."""
    body = content(end)
    at = urlsplit(end.url)
    headers = {
        "Content-Type": "application/json", "User-Agent": "flight-orchestrator",
        "Idempotency-Key": f"{end.instance_id}:{end.life}:completion",
        SIGNATURE: signature(system.tokens.completion_key(end.tenant), int(end.now.timestamp()), body),
    }  # fmt: skip
    path = (at.path or "/") + (f"?{at.query}" if at.query else "")
    try:
        context = create_urllib3_context()
        context.load_default_certs()
        connection = Connection(f"{at.scheme}://{at.netloc}", Deadline(TIMEOUT), context)
        try:
            status = connection.exchange("POST", path, body, headers).status
        finally:
            connection.close()
    except TimeoutError:
        return f"no answer within {TIMEOUT:g} s"
    # ValueError: what a URL or a header cannot be sent as. Whatever the receiver does has to be recorded as a try.
    except (OSError, HTTPError, HTTPException, ValueError) as error:
        return described(error)[:500]
    return None if 200 <= status < 300 else f"it was answered with {status}"


def content(end: End) -> bytes:
    told = {
        "instanceId": end.instance_id, "workflowId": end.workflow_id, "status": end.status, "reason": end.reason,
        "businessKey": end.business_key, "ended": end.ended.isoformat(),
    }  # fmt: skip
    return json.dumps(told, ensure_ascii=False).encode()


def signature(key: str, moment: int, body: bytes) -> str:
    """`t=SECONDS,v1=HEX`: an HMAC-SHA256 with the key over `SECONDS.BODY`."""
    said = hmac.new(key.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={said}"
