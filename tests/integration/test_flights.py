"""Whole flights on a real Postgres, a real broker and a real worker."""

from __future__ import annotations

from orchestrator.system import System
from tests import flights


def steps(shown: dict[str, object]) -> list[str]:
    return [f"{one['step']} {one['status']}" for one in shown["steps"]]  # type: ignore[attr-defined]


def test_a_permit_renewal_completes_its_three_steps_in_order(worker: System) -> None:
    instance = flights.start(worker, "permit-renewal", {"permitNo": "P-2041", "fee": 75})

    shown = flights.ended(worker, instance)

    assert shown["status"] == "COMPLETED"
    done = [one["step"] for one in shown["history"] if one["verb"] == "succeed"]
    assert done == ["uploadDocs", "chargeFee", "updatePermitDB"]


def test_a_refused_permit_refunds_the_fee(worker: System) -> None:
    instance = flights.start(worker, "permit-renewal", {"permitNo": "P-1313", "fee": 75})

    shown = flights.ended(worker, instance)

    assert shown["status"] == "COMPENSATED"
    assert [(one["step"], one["service"], one["status"]) for one in shown["compensations"]] == [
        ("chargeFee", "achSvc.refund", "COMPENSATED")
    ]
