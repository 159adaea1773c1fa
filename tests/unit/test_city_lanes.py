"""The lanes of the larger samples: effects once per key, undone once, nonsense refused, and late calls, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.lane import Call, Reply
from orchestrator.lanes import registry
from orchestrator.lanes.caller import Caller
from tasks import case_svc, inspection_svc, licence_svc, street_svc

LANES = registry.load(Path(__file__).parents[2] / "services.yaml")
CALLER = Caller()
TRACE = "0193a5f0c0de7000800000000000abcd"
SHOP = {"business": "Blue Door", "trade": "bakery"}
PREMISES = {"address": "7 Market Square", "zone": "mixed", "exits": 2, "extinguishers": 1, "sinks": 2}
CLOSURE = {"street": "Mill Lane", "from": "2026-05-01T06:00:00+02:00", "to": "2026-05-01T22:00:00+02:00"}
WHOLE = ["identity.pdf", "income.pdf", "rent.pdf"]


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCHESTRATOR_DATA_DIR", str(tmp_path))
    return tmp_path


def call(service: str, given: Any = None, *, step: str = "step", undo: bool = False, trace: str = TRACE,
         tenant: str = "city", generation: int = 1) -> Reply:  # fmt: skip
    lane, _, operation = service.partition(".")
    key = f"{trace}:{step}:g{generation}:{'undo' if undo else 'do'}"
    return CALLER.call(LANES[lane], Call(
        tenant=tenant, trace=trace, step=step, lane=lane, operation=operation, key=key, attempt=1, payload={},
        input=given or {}, timeout=5, undo=undo, callback_url="http://127.0.0.1/callbacks/t/s",
    ))  # fmt: skip


def result(reply: Reply) -> Any:
    assert reply.outcome == "done", reply.error
    return reply.output["result"]


def state(trace: str = TRACE) -> str:
    [row] = street_svc.CLOSURES.rows("SELECT state FROM closures WHERE trace = ?", trace)
    return str(row["state"])


# Each of them: (what it does, what undoes it, what it is given, what it needs before)
PAIRS = [
    ("inspectionSvc.book", "inspectionSvc.release", PREMISES, None),
    ("licenceSvc.grant", "licenceSvc.revoke", SHOP, None),
    ("caseSvc.open", "caseSvc.close", {"applicant": "Tomasz"}, None),
    ("streetSvc.reserve", "streetSvc.free", CLOSURE, None),
    ("streetSvc.close", "streetSvc.reopen", {}, ("streetSvc.reserve", CLOSURE)),
]


@pytest.mark.parametrize(("do", "undo", "given", "before"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_an_effect_and_its_undo_happen_once_for_a_key(do: str, undo: str, given: Any, before: Any) -> None:
    if before:
        call(before[0], before[1], step="before")
    first, again = call(do, given), call(do, given)
    assert first == again
    assert first.outcome == "done", first.error
    undone, repeated = call(undo, given, undo=True), call(undo, given, undo=True)
    assert undone == repeated
    assert undone.outcome == "done", undone.error


@pytest.mark.parametrize(("do", "undo", "given", "before"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_a_call_that_was_undone_before_it_arrived_is_not_done_any_more(
    do: str, undo: str, given: Any, before: Any
) -> None:
    if before:
        call(before[0], before[1], step="before")
    assert call(undo, given, undo=True).outcome == "done"
    late = call(do, given)
    assert late.outcome == "rejected"
    assert "undone before it arrived" in (late.error or "")
    assert call(do, given, generation=2).outcome == "done", "an operator's retry is another call"


@pytest.mark.parametrize(
    ("service", "given", "said"),
    [
        ("inspectionSvc.book", {}, "needs an `address`"),
        ("inspectionSvc.fire", {"address": "x", "exits": -1}, "`exits` must be a number"),
        ("inspectionSvc.health", {"address": "x", "sinks": True}, "`sinks` must be a number"),
        ("inspectionSvc.zoning", {"address": "x", "zone": "lunar"}, "has no zone 'lunar'"),
        ("inspectionSvc.zoning", {"address": "x", "zone": ["mixed"]}, "has no zone"),
        ("inspectionSvc.street", {"address": "x", "blocksHydrant": "no"}, "must be true or false"),
        ("registrySvc.check", {"name": " ", "idNo": "ID-1042"}, "needs a `name`"),
        ("registrySvc.check", {"name": "Ada", "idNo": 1042}, "no number of an identity card"),
        ("licenceSvc.grant", {}, "a `business` with a name"),
        ("licenceSvc.grant", {"business": "x", "conditions": "none"}, "must be a list of texts"),
        ("caseSvc.open", {"applicant": 7}, "an `applicant` with a name"),
        ("caseSvc.open", {"applicant": "Ada", "documents": "deed"}, "must be a list"),
        ("caseSvc.open", {"applicant": "Ada", "documents": [{}]}, "needs a name"),
        ("caseSvc.add", {"documents": []}, "no open case"),
        ("caseSvc.look", {}, "no open case"),
        ("caseSvc.award", {"monthly": 10_000}, "from 1 to 2000"),
        ("caseSvc.award", {"monthly": 1.5}, "whole dollars"),
        ("citizenPortal.askForDocuments", {"missing": []}, "`missing` must be a list"),
        ("streetSvc.reserve", {**CLOSURE, "street": ""}, "a `street` is needed"),
        ("streetSvc.reserve", {**CLOSURE, "street": "Hospital Road"}, "ambulances need it"),
        ("streetSvc.reserve", {**CLOSURE, "from": "tomorrow"}, "must be a moment such as"),
        ("streetSvc.reserve", {**CLOSURE, "from": "2026-05-01T06:00:00"}, "which zone"),
        ("streetSvc.reserve", {**CLOSURE, "to": CLOSURE["from"]}, "end after it begins"),
        ("streetSvc.close", {}, "no street is reserved"),
    ],
)
def test_nonsense_is_rejected_with_what_is_wrong(service: str, given: Any, said: str) -> None:
    reply = call(service, given)
    assert reply.outcome == "rejected", reply
    assert said in (reply.error or "")


@pytest.mark.parametrize(
    ("service", "changed", "conditions", "faults"),
    [
        ("fire", {}, 0, 0), ("fire", {"extinguishers": 0}, 1, 0), ("fire", {"exits": 1}, 0, 1),
        ("health", {}, 0, 0), ("health", {"sinks": 1}, 1, 0), ("health", {"sinks": 0}, 0, 1),
        ("zoning", {}, 0, 0), ("zoning", {"zone": "residential"}, 0, 1),
        ("street", {}, 0, 0), ("street", {"blocksHydrant": True}, 0, 1),
    ],
)  # fmt: skip
def test_inspectors_find_what_is_there(service: str, changed: Any, conditions: int, faults: int) -> None:
    found = result(call(f"inspectionSvc.{service}", {**PREMISES, **changed}))
    assert (len(found["conditions"]), len(found["faults"]), found["passed"]) == (conditions, faults, not faults)


def test_a_release_takes_back_its_own_steps_appointment_only() -> None:
    for step in ("fire", "health"):
        call("inspectionSvc.book", PREMISES, step=step)
    assert result(call("inspectionSvc.release", PREMISES, step="fire", undo=True)) == {"released": ["in-1"]}
    standing = inspection_svc.DIARY.rows("SELECT step FROM appointments WHERE released IS NULL")
    assert [row["step"] for row in standing] == [f"{TRACE}:health"]


def test_the_trade_office_says_what_is_wrong_with_a_form() -> None:
    assert result(call("licenceSvc.checkForm", SHOP)) == {"complete": True, "faults": []}
    wrong = result(call("licenceSvc.checkForm", {"business": " ", "trade": "piracy"}))
    assert (wrong["complete"], len(wrong["faults"])) == (False, 2)


def test_a_revoked_licence_is_not_valid_any_more() -> None:
    assert result(call("licenceSvc.grant", {**SHOP, "conditions": ["close at ten"]}))["licence"] == "L-1"
    assert result(call("licenceSvc.revoke", undo=True)) == {"revoked": ["L-1"]}
    [row] = licence_svc.BOOK.rows("SELECT conditions, revoked FROM licences")
    assert row["conditions"] == "close at ten"
    assert row["revoked"] is not None


def test_an_owner_whom_the_court_has_barred_is_named_with_the_reason() -> None:
    assert result(call("registrySvc.check", {"name": "Ada", "idNo": "ID-1042"}))["barred"] is False
    barred = result(call("registrySvc.check", {"name": "Max", "idNo": "ID-6660"}))
    assert (barred["barred"], barred["why"]) == (True, "barred by the court until 2031")


def test_a_case_is_complete_once_a_document_of_each_kind_is_in_it() -> None:
    assert result(call("caseSvc.open", {"applicant": "Tomasz", "documents": ["identity.pdf"]})) == {
        "complete": False,
        "missing": ["income", "rent"],
    }
    assert call("caseSvc.award", {"monthly": 320}, step="early").outcome == "rejected"
    added = call("caseSvc.add", {"asked": ["income", "rent"], "documents": [{"name": "income-may.pdf"}]}, step="add")
    assert result(added)["missing"] == ["rent"]
    assert result(call("caseSvc.add", {"asked": ["rent"]}, step="counter")) == {"complete": True, "missing": []}
    assert result(call("caseSvc.award", {"monthly": 320}, step="award")) == {"monthly": 320}


def test_what_was_awarded_ends_when_the_case_is_closed() -> None:
    call("caseSvc.open", {"applicant": "Tomasz", "documents": WHOLE})
    call("caseSvc.award", {"monthly": 320}, step="award")
    assert result(call("caseSvc.close", undo=True)) == {"closed": True}
    [row] = case_svc.FILES.rows("SELECT state, monthly FROM cases")
    assert (row["state"], row["monthly"]) == ("closed", None)


def test_a_street_is_reserved_by_one_at_a_time_whatever_the_offsets_are() -> None:
    assert call("streetSvc.reserve", CLOSURE).outcome == "done"
    same_hour = {**CLOSURE, "from": "2026-05-01T19:30:00+00:00", "to": "2026-05-01T23:00:00+00:00"}
    other = call("streetSvc.reserve", same_hour, trace="f" * 32)
    assert other.outcome == "rejected"
    assert f"(reference {TRACE})" in (other.error or "")
    after = {**CLOSURE, "from": "2026-05-01T20:00:00+00:00", "to": "2026-05-01T23:00:00+00:00"}
    assert call("streetSvc.reserve", after, trace="e" * 32).outcome == "done"
    call("streetSvc.free", undo=True)
    assert call("streetSvc.reserve", {**CLOSURE, "street": "Elm Street"}, trace="d" * 32).outcome == "done"


def test_a_street_is_open_again_by_the_step_and_by_the_undo() -> None:
    call("streetSvc.reserve", CLOSURE)
    call("streetSvc.close", step="close")
    assert state() == "closed"
    assert result(call("streetSvc.reopen", step="reopen"))["state"] == "open"
    assert result(call("streetSvc.reopen", step="close", undo=True))["state"] == "open"


def test_a_letter_lists_its_points(data_dir: Path) -> None:
    call("notificationSvc.send", {"to": "Ada", "message": "Granted, with conditions:", "points": ["one", "two"]})
    [letter] = (data_dir / "lanes" / "letters" / "city").iterdir()
    assert "Granted, with conditions:\n- one\n- two\n" in letter.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("service", "desk"),
    [
        ("casePortal.review", "case-reviewer"),
        ("casePortal.head", "head-of-office"),
        ("citizenPortal.askForDocuments", "citizen"),
    ],
)
def test_a_person_gets_the_callback_url_and_answers_later(service: str, desk: str, data_dir: Path) -> None:
    for _ in range(2):
        assert call(service, {"missing": ["rent"]}) == Reply(outcome="done", later=True)
    assert len(list((data_dir / "lanes" / "inbox" / "city" / desk).iterdir())) == 1
