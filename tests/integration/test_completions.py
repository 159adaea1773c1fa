"""The end of an instance is told to the URL that was named at its start, until somebody takes it."""

from __future__ import annotations

import hashlib
import hmac
import socket
import threading
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from orchestrator import completions, engine
from orchestrator.completions import SIGNATURE
from orchestrator.errors import Conflict, InvalidCompletion
from orchestrator.settings import Settings
from orchestrator.store import completions as due
from orchestrator.system import System
from tests import flights
from tests.services import BROKEN, REJECTED, Airport, Answer, Seen

pytestmark = pytest.mark.integration

FEE = "id: fee\nbusinessKey: payload.no\nsteps: [{id: charge, service: keyed.charge}]"


@pytest.fixture
def system(tower: Airport) -> System:
    """That may tell the service on loopback."""
    return replace(
        tower.system, settings=replace(tower.system.settings, webhook_hosts=urlsplit(tower.service.url).netloc)
    )


@pytest.fixture
def url(tower: Airport) -> str:
    return f"{tower.service.url}/safe/ended"


def ended(tower: Airport, system: System, url: str, *answers: Answer) -> str:
    tower.service.tell("charge", *answers)
    tower.define(FEE)
    instance = flights.start(system, "fee", {"no": "P-1"}, completion_url=url)
    assert completions.deliver(system) == 0, "it has not ended"
    tower.run(instance, "charge")
    return instance


def told(tower: Airport) -> list[Seen]:
    return tower.service.calls("ended")


def completion(tower: Airport, instance: str) -> dict[str, Any]:
    found: dict[str, Any] = tower.status(instance)["completion"]
    return found


def test_an_end_is_told_once_and_signed(tower: Airport, system: System, url: str) -> None:
    instance = ended(tower, system, url)
    assert completion(tower, instance)["status"] == "due"
    assert (completions.deliver(system), completions.deliver(system)) == (1, 0)
    (seen,) = told(tower)
    shown = tower.status(instance)
    assert seen.body == {"instanceId": instance, "workflowId": "fee", "status": "COMPLETED", "reason": None,
                         "businessKey": "P-1", "ended": shown["ended"]}  # fmt: skip
    assert seen.key == f"{instance}:1:completion"
    moment, given = (part.partition("=")[2] for part in seen.headers[SIGNATURE].split(","))
    key = system.tokens.completion_key("local").encode()
    assert given == hmac.new(key, moment.encode() + b"." + seen.content, hashlib.sha256).hexdigest()
    assert shown["completion"] == {"url": url, "status": "told", "tries": 0, "error": None, "next": None}


def test_one_that_is_not_taken_is_told_again_with_the_same_key_after_a_pause(
    tower: Airport, system: System, url: str
) -> None:
    tower.service.tell("ended", BROKEN, Answer(status=302, headers={"Location": "/safe/elsewhere"}))
    instance = ended(tower, system, url)
    completions.deliver(system)
    found = completion(tower, instance)
    assert (found["status"], found["tries"], found["error"]) == ("due", 1, "it was answered with 500")
    assert completions.deliver(system) == 0
    tower.clock.advance(6)
    completions.deliver(system)
    assert completion(tower, instance)["error"] == "it was answered with 302"
    tower.clock.advance(11)
    assert completions.deliver(system) == 1
    assert {one.key for one in told(tower)} == {f"{instance}:1:completion"}
    assert len(told(tower)) == 3
    assert tower.service.calls("elsewhere") == []


@pytest.mark.parametrize("said", [b"garb\x00age\r\n\r\n", b"HTTP/1.1 20x\r\n\r\n", b"HTTP/1.1 200 " + b"a" * 70_000])
def test_one_whose_receiver_speaks_no_http_is_tried_again_and_shown(
    tower: Airport, system: System, said: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        system = replace(system, settings=replace(system.settings, webhook_hosts=place))
        instance = ended(tower, system, f"http://{place}/ended")

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(said)

        answering = threading.Thread(target=answer)
        answering.start()
        completions.deliver(system)
        answering.join()
    found = completion(tower, instance)
    assert (found["status"], found["tries"]) == ("due", 1)
    assert found["error"]


def test_one_that_nobody_takes_for_a_day_is_given_up_and_shown(tower: Airport, system: System, url: str) -> None:
    tower.service.always("ended", BROKEN)
    instance = ended(tower, system, url)
    tower.clock.advance(86401)
    completions.deliver(system)
    found = completion(tower, instance)
    assert (found["status"], found["error"], found["next"]) == ("given up", "it was answered with 500", None)
    tower.clock.advance(7200)
    assert len(told(tower)) == 1
    completions.deliver(system)
    assert len(told(tower)) == 1


def test_many_ends_are_told_in_one_go_and_one_that_nobody_takes_keeps_none(
    tower: Airport, system: System, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "BATCH", 2)
    tower.service.tell("ended", BROKEN)
    instances = [ended_too(tower, system, url) for _ in range(7)]
    completions.deliver_all(system)
    assert len(told(tower)) == 7
    assert sorted(completion(tower, one)["status"] for one in instances) == ["due", *["told"] * 6]


def ended_too(tower: Airport, system: System, url: str) -> str:
    """One more that has ended, and nobody was told yet."""
    instance = flights.start(system, tower.define(FEE), {"no": "P-1"}, completion_url=url)
    tower.run(instance, "charge")
    return instance


def test_whoever_dies_while_he_tells_is_followed_by_another(tower: Airport, system: System, url: str) -> None:
    instance = ended(tower, system, url)
    with system.database.transaction() as connection:
        taken = due.take(connection, limit=10, lease=completions.LEASE)
    assert [one.instance_id for one in taken] == [instance]
    assert completions.deliver(system) == 0
    tower.clock.advance(completions.LEASE + 1)
    assert completions.deliver(system) == 1


def test_a_second_end_after_a_retry_is_told_with_a_key_of_its_own(tower: Airport, system: System, url: str) -> None:
    instance = ended(tower, system, url, REJECTED)
    completions.deliver(system)
    tower.order(engine.retry, instance)
    assert completion(tower, instance)["status"] == "awaited"
    tower.run(instance, "charge")
    completions.deliver(system)
    assert [(one.key, one.body["status"]) for one in told(tower)] == [
        (f"{instance}:1:completion", "FAILED"),
        (f"{instance}:2:completion", "COMPLETED"),
    ]


def test_a_host_that_is_no_longer_allowed_is_told_nothing(tower: Airport, system: System, url: str) -> None:
    instance = ended(tower, system, url)
    completions.deliver(tower.system)
    assert told(tower) == []
    assert "is not an allowed host" in completion(tower, instance)["error"]


def test_the_url_belongs_to_the_request_that_an_idempotency_key_stands_for(
    tower: Airport, system: System, url: str
) -> None:
    tower.define(FEE)
    started = flights.start(system, "fee", {"no": "1"}, completion_url=url, idempotency_key="one")
    assert flights.start(system, "fee", {"no": "1"}, completion_url=url, idempotency_key="one") == started
    with pytest.raises(Conflict):
        flights.start(system, "fee", {"no": "1"}, idempotency_key="one")


@pytest.mark.parametrize(
    ("hosts", "url", "said"),
    [
        (None, "https://hooks.example/x", "hooks.example is not an allowed host"),
        ("hooks.example", "https://hooks.example:8443/", "hooks.example:8443 is not an allowed host"),
        ("hooks.example", "https://hooks.example.evil/", "not an allowed host"),
        ("hooks.example", "https://evil@hooks.example/", "password"),
        ("*.example", "https://example/", "not an allowed host"),
        ("hooks.example", "ftp://hooks.example/", "not an absolute http or https URL"),
        ("hooks.example", "/ended", "not an absolute http or https URL"),
        ("hooks.example", "https://hooks.example/a b", "not an absolute http or https URL"),
        ("hooks.example", "https://hooks.example:port/", "ort"),
        ("hooks.example", "https://hooks.example/" + "x" * 2000, "characters"),
    ],
)
def test_a_url_that_may_not_be_told_is_refused_with_the_mend(hosts: str | None, url: str, said: str) -> None:
    with pytest.raises(InvalidCompletion) as refused:
        completions.check(Settings(webhook_hosts=hosts), url)
    assert said in str(refused.value)
    assert "ORCHESTRATOR_WEBHOOK_HOSTS" in str(refused.value)


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ("other.example, hooks.example", "https://hooks.example/x?y=1"),
        ("hooks.example", "https://HOOKS.example:443"),
        ("hooks.example:8443", "https://hooks.example:8443/"),
        ("*.city.example", "http://a.b.city.example/"),
    ],
)
def test_a_url_on_an_allowed_host_is_taken(hosts: str, url: str) -> None:
    completions.check(Settings(webhook_hosts=hosts), url)
