"""Everything that runs in a run: servers, the services, the relay, and the orchestrator's own processes."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from orchestrator import bootstrap, embedded, engine
from orchestrator.servers import embedded_postgres
from orchestrator.servers.ports import LOOPBACK, free_port
from orchestrator.servers.stack import answers, environment
from orchestrator.settings import Settings
from orchestrator.store.database import upgrade
from orchestrator.system import System
from tests import servers
from tests.chaos.ledger_service import ASKED, LEDGER, SUFFERED
from tests.chaos.run import broker, faraway, options
from tests.chaos.run.broker import Broker
from tests.chaos.run.faraway import Faraway
from tests.chaos.run.members import Member
from tests.chaos.run.options import TENANTS, Options
from tests.chaos.run.relays import Address, Link, Relays
from tests.processes import wait_until

WORKFLOWS = Path(__file__).parent / "workflows"
COPIES = "copies.txt"
WEBS, BEATS = 2, 2
SKEWS = (0, 3600, -3600)  # seconds by which clocks are off, in turn: of the workers, the beats, the webs
CONCURRENCY = 6  # threads of a worker
START_WITHIN = 60.0


@dataclass(kw_only=True)
class Arena:
    folder: Path
    options: Options
    settings: Settings  # with the servers' own addresses
    postgres: embedded.Server
    broker: Broker
    relays: Relays
    service: Member
    service_url: str
    workers: list[Member]
    beats: list[Member]
    webs: list[Member]
    team: Member  # another one's Celery worker
    faraway: Faraway | None
    booted_within: float = 0.0  # seconds that the processes took at the start

    @property
    def ours(self) -> list[Member]:
        return [*self.workers, *self.beats, *self.webs, self.team]

    @property
    def ledger(self) -> Path:
        return self.folder / LEDGER

    @property
    def asked(self) -> Path:
        return self.folder / ASKED

    @property
    def ills(self) -> Path:
        return self.folder / SUFFERED

    @property
    def copies(self) -> Path:
        return self.folder / COPIES

    def misbehave(self, share: float) -> None:
        """Let the services behave badly in this share of their calls."""
        request = urllib.request.Request(
            f"{self.service_url}/control", data=json.dumps({"misbehave": share}).encode(), method="POST"
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            answer.read()

    def restart_postgres(self) -> None:
        """As `pg_ctl stop -m immediate` and a start: no checkpoint, and recovery from the log. Does not wait for that."""
        self.postgres.process.send_signal(signal.SIGQUIT)
        self.postgres.process.wait()
        self.postgres.process = self.postgres._spawn()

    def is_postgres_there(self) -> bool:
        """Whether it runs; started again where it does not: dying backends hold shared memory for a moment."""
        if self.postgres.process.poll() is not None:
            self.postgres.process = self.postgres._spawn()
            return False
        return True

    def put_right(self) -> None:
        """Everything runs, and the servers answer."""
        for member in self.ours:
            if member.is_stopped:
                member.go_on()
            member.start()
        assert self.settings.database_url is not None
        url = self.settings.database_url
        wait_until(lambda: self.is_postgres_there() and embedded_postgres.answers(url), within=START_WITHIN)
        wait_until(self.broker.is_there, within=START_WITHIN)


@contextmanager
def arena(given: Options) -> Iterator[Arena]:
    """Start all of it, with definitions for each tenant, and leave nothing behind."""
    with ExitStack() as held:
        folder = held.enter_context(servers.data_directory())
        postgres = embedded.postgres(folder / "postgres", durable=True)
        held.callback(postgres.stop)
        its_broker = broker.start(given.broker, folder / "broker")
        held.callback(its_broker.stop)
        settings = _settings(postgres.url, its_broker.url, folder)
        upgrade(postgres.url)
        found = _compose(given, folder, settings, postgres, its_broker, held)
        _define(found)
        began = time.monotonic()
        for member in found.ours:
            member.start()
        for member in found.webs:
            url = f"http://{LOOPBACK}:{member.env['ORCHESTRATOR_PORT']}/readyz"
            wait_until(answers(url), within=START_WITHIN)
        found.booted_within = time.monotonic() - began
        yield found


def _settings(database_url: str, broker_url: str, folder: Path) -> Settings:
    return Settings(
        database_url=database_url, broker_url=broker_url, data_dir=str(folder), workflows_dir=str(WORKFLOWS),
        services_file=str(folder / "services.yaml"), lease=options.LEASE, sweep_every=options.SWEEP_EVERY,
        republish_after=options.REPUBLISH_AFTER, losses=options.LOSSES, auth="jwt", jwt_secret=options.SECRET,
        tenant=TENANTS[0], worker_concurrency=CONCURRENCY,
    )  # fmt: skip


def _compose(given: Options, folder: Path, settings: Settings, postgres: embedded.Server, its_broker: Broker,
             held: ExitStack) -> Arena:  # fmt: skip
    service_port, web_ports, door = free_port(), [free_port() for _ in range(WEBS)], free_port()
    to = {
        "postgres": _address(settings.database_url),
        "broker": _address(settings.broker_url),
        "service": (LOOPBACK, service_port),
    }
    settings = replace(settings, public_url=f"http://{LOOPBACK}:{door}")
    _services(folder / "services.yaml", to["service"])
    far = faraway.make(held)
    links = {"web": Link(listen=(LOOPBACK, door), to=[(LOOPBACK, port) for port in web_ports])}
    for number in range(1, given.workers + 1):
        host = far.outside if far and number == given.workers else LOOPBACK
        links |= {
            f"worker-{number}.{name}": Link(listen=(host, free_port()), to=[target]) for name, target in to.items()
        }
    relays = Relays(folder, links)
    held.callback(relays.stop)
    service = Member(
        name="service", env=dict(os.environ), log=folder / "service.log",
        argv=(sys.executable, "-m", "tests.chaos.ledger_service", str(folder), str(service_port), str(given.seed)),
    )  # fmt: skip
    service.start()
    held.callback(service.kill)
    found = Arena(
        folder=folder, options=given, settings=settings, postgres=postgres, broker=its_broker, relays=relays,
        service=service, service_url=f"http://{LOOPBACK}:{service_port}", faraway=far,
        workers=[_worker(given, number, settings, links, folder, far) for number in range(1, given.workers + 1)],
        beats=[_member(given, number, "beat", settings, folder) for number in range(1, BEATS + 1)],
        webs=[
            _member(given, number, "web", replace(settings, port=port), folder)
            for number, port in enumerate(web_ports, 1)
        ],
        team=_member(given, 1, "team", settings, folder),
    )  # fmt: skip
    for member in found.ours:
        held.callback(member.kill)
    return found


def _worker(given: Options, number: int, settings: Settings, links: dict[str, Link], folder: Path,
            far: Faraway | None) -> Member:  # fmt: skip
    """One that sees database, broker and services only through its own links."""
    at = {name: links[f"worker-{number}.{name}"].listen for name in ("postgres", "broker", "service")}
    own = folder / f"services-{number}.yaml"
    _services(own, at["service"])
    settings = replace(
        settings, services_file=str(own), database_url=_at(settings.database_url, at["postgres"]),
        broker_url=_at(settings.broker_url, at["broker"]),
    )  # fmt: skip
    made = _member(given, number, "worker", settings, folder)
    if far and at["service"][0] == far.outside:
        made.argv = (*far.inside, *made.argv)
    return made


def _member(given: Options, number: int, what: str, settings: Settings, folder: Path) -> Member:
    env = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1", **environment(settings)}
    argv, name = (sys.executable, "-m", "tests.chaos.run.entry", what), f"{what}-{number}"
    if what == "team":
        argv = (sys.executable, "-m", "tests.chaos.run.team", settings.broker_url or "")
    tampered = {
        "CHAOS_CLOCK": str(SKEWS[number % len(SKEWS)]),
        "CHAOS_COPIES": "1" if what == "web" else "5",  # who starts sends nothing: it notifies the dispatchers
        "CHAOS_COPIES_FILE": str(folder / COPIES),
        "CHAOS_SEED": f"{given.seed}-{name}",
    }  # fmt: skip
    return Member(name=name, argv=argv, env={**env, **tampered}, log=folder / f"{name}.log")


def _services(file: Path, address: Address) -> None:
    template = (WORKFLOWS / "services.yaml.in").read_text()
    file.write_text(template.replace("URL", f"http://{address[0]}:{address[1]}"))


def _address(url: str | None) -> Address:
    at = urlsplit(url or "")
    assert at.hostname is not None
    assert at.port is not None
    return at.hostname, at.port


def _at(url: str | None, address: Address) -> str:
    """The same URL by way of a link."""
    at = urlsplit(url or "")
    host, port = address
    return urlunsplit(at._replace(netloc=f"{at.username or ''}:{at.password}@{host}:{port}"))


def _define(found: Arena) -> None:
    system = compose(found.settings)
    for file in sorted(WORKFLOWS.glob("*.yaml")):
        for tenant in TENANTS:
            engine.put_definition(system, tenant=tenant, workflow_id=file.stem, text=file.read_text())
    system.close()


def compose(settings: Settings) -> System:
    return bootstrap.compose(settings)


def seeded(given: Options, of: str) -> random.Random:
    """A source of chance of its own for each part, so that one does not change the other's."""
    return random.Random(f"{given.seed} {of}")
