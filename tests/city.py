"""A city for the tests of the pages and for their pictures: lanes of its own, three workflows, and a worker.

The lanes lead to the service of `tests.services`, which answers as a test tells it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkzeug.serving import BaseWSGIServer, make_server

from orchestrator import engine
from orchestrator.api.app import create_app
from orchestrator.settings import Settings
from tests import flights, servers, services
from tests.clock import Clock
from tests.services import Airport

LANES = """
services:
  fileSvc: {{transport: http, url: "{url}/keyed", idempotency: key, breaker: none}}
  zoningSvc: {{transport: http, url: "{url}/safe", idempotency: safe, breaker: none}}
  insuranceSvc: {{transport: http, url: "{url}/safe", idempotency: safe, breaker: none}}
  achSvc: {{transport: http, url: "{url}/keyed", idempotency: key, queue: payments, breaker: none}}
  zoningPortal: {{transport: http, url: "{url}/keyed", idempotency: key, backup: zoningPortal.deputy, breaker: none}}
  permitSvc: {{transport: http, url: "{url}/keyed", idempotency: key, breaker: none}}
  registerSvc: {{transport: http, url: "{url}/blind", idempotency: none, breaker: none}}
"""
RENEWAL = """\
id: permit-renewal
title: Short-term rental permit
businessKey: payload.permitNo
deadline: 30d
steps:
  - id: uploadDocs
    title: Store the documents
    service: fileSvc.upload
  - id: zoningCheck
    title: Check the site plan
    service: zoningSvc.check
    parallel: true
  - id: insuranceCheck
    title: Check the insurance
    service: insuranceSvc.check
    parallel: true
  - id: chargeFee
    title: Charge the fee
    service: achSvc.charge
    retry: {max: 0}
    compensate: {service: achSvc.refund, retry: {max: 0}}
  - id: zoningApproval
    title: Zoning approval
    service: zoningPortal.approve
    pause: true
    timeout: 48h
    onTimeout: escalate
    escalate: {to: zoningPortal.deputy, timeout: 24h, onTimeout: fail}
  - id: updatePermit
    title: Renew the permit
    service: permitSvc.update
    retry: {max: 0}
  - id: sendReceipt
    title: Send the receipt
    service: permitSvc.receipt
"""
STREET = """\
id: street-closure
title: Street closure
businessKey: payload.permitNo
steps:
  - id: register
    title: Enter it in the register
    service: registerSvc.enter
    retry: {max: 0}
  - id: signs
    title: Order the signs
    service: fileSvc.order
"""
LICENCE = """\
id: business-licence
title: Business licence
businessKey: payload.permitNo
steps:
  - id: inspection
    title: Site inspection
    pause: true
    timeout: 5d
    onTimeout: fail
  - id: issue
    service: permitSvc.issue
"""
WORKFLOWS = {"permit-renewal": RENEWAL, "street-closure": STREET, "business-licence": LICENCE}


def renewal(number: str, applicant: str = "Maria Lopez") -> dict[str, Any]:
    address = {"street": "12 Elm Street", "unit": "B", "zone": "R2"}
    documents = [{"name": "site-plan.pdf", "pages": 4}, {"name": "insurance.pdf", "pages": 2}]
    return {"permitNo": number, "applicant": applicant, "fee": 75.5, "address": address, "documents": documents,
            "owner": True}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class City:
    airport: Airport
    site: str  # the address of the pages

    @property
    def service(self) -> services.Service:
        return self.airport.service

    def start(self, workflow: str, payload: Mapping[str, Any]) -> str:
        return self.airport.start(workflow, payload)

    def waiting(self, number: str = "STR-2026-0412", **more: str) -> str:
        """A renewal that waits for the zoning office."""
        instance = self.start("permit-renewal", renewal(number, **more))
        self.airport.step_is(instance, "zoningApproval", "WAITING")
        return instance

    def stuck(self, number: str = "STR-2026-0398") -> str:
        """A renewal that failed, and whose fee cannot be given back."""
        self.service.tell("update", services.REJECTED)
        self.service.tell("refund", services.REJECTED)
        instance = self.waiting(number)
        self.airport.decide(instance, "zoningApproval", decision="approved")
        self.airport.reached(instance, "STUCK")
        return instance

    def uncertain(self, number: str = "SC-2026-0071") -> str:
        """A street closure of which nobody knows whether it is in the register."""
        self.service.tell("enter", services.LOST_BEFORE)
        instance = self.start("street-closure", {"permitNo": number, "street": "Main Street"})
        self.airport.reached(instance, "STUCK")
        return instance

    def done(self, number: str = "STR-2026-0377") -> str:
        instance = self.waiting(number)
        self.airport.decide(instance, "zoningApproval", decision="approved", by="j.okafor")
        self.airport.ended(instance)
        return instance

    def undone(self, number: str = "STR-2026-0380") -> str:
        instance = self.waiting(number)
        comment = "The site plan shows a second unit"
        self.airport.decide(instance, "zoningApproval", decision="rejected", comment=comment, by="j.okafor")
        self.airport.ended(instance)
        return instance

    def suspended(self, number: str = "BL-2026-0144") -> str:
        instance = self.start("business-licence", {"permitNo": number, "trade": "Bakery"})
        self.airport.step_is(instance, "inspection", "WAITING")
        self.airport.order(engine.suspend, instance)
        return instance


@contextmanager
def serving(airport: Airport) -> Iterator[str]:
    """The address of the pages, served by this process."""
    app = create_app(airport.system)
    server: BaseWSGIServer = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        if "changes" in app.extensions:
            app.extensions["changes"].close()  # streams end
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def city(postgres_server: str, template: str, places: servers.BrokerPlaces, folder: Path) -> Iterator[City]:
    with (
        servers.database(postgres_server, template=template) as database_url,
        places.one() as broker_url,
        services.serving() as service,
    ):
        lanes = folder / "services.yaml"
        lanes.write_text(LANES.format(url=service.url))
        clock = Clock(database_url)
        clock.install()
        settings = Settings(auth="local", lease=services.LEASE, sweep_every=0.1, republish_after=1.0,
                            database_url=database_url, broker_url=broker_url, services_file=str(lanes))  # fmt: skip
        with services.composed(settings) as system, flights.worker(system):
            airport = Airport(system=system, service=service, clock=clock)
            for text in WORKFLOWS.values():
                airport.define(text)
            with serving(airport) as site:
                yield City(airport=airport, site=site)
