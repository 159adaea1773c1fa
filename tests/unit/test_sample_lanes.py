"""The sample lanes behave like the real thing: effects once per key, kept on disk, whoever calls."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orchestrator import loader
from orchestrator.definition import Operation, ServiceStep, Step, walk
from orchestrator.lane import Call, Reply, result_of
from orchestrator.lanes import local, registry
from orchestrator.lanes.caller import Caller
from tasks import ach_svc, permit_svc
from tasks.ledger import write_once

REPOSITORY = Path(__file__).parents[2]
LANES = registry.load(REPOSITORY / "services.yaml")
CALLER = Caller()
TRACE = "0193a5f0c0de7000800000000000abcd"


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCHESTRATOR_DATA_DIR", str(tmp_path))
    return tmp_path


def call(
    service: str,
    payload: Any,
    *,
    step: str = "step",
    generation: int = 1,
    undo: bool = False,
    result: Any = None,
    given: Any = None,
    trace: str = TRACE,
    tenant: str = "city",
    callback_url: str | None = None,
) -> Reply:
    lane, _, operation = service.partition(".")
    phase = "undo" if undo else "do"
    return CALLER.call(
        LANES[lane],
        Call(
            tenant=tenant,
            trace=trace,
            step=step,
            lane=lane,
            operation=operation,
            key=f"{trace}:{step}:g{generation}:{phase}",
            attempt=1,
            payload=payload,
            input=payload if given is None else given,
            timeout=5,
            callback_url=callback_url,
            result=result,
            undo=undo,
        ),
    )


def entries() -> list[tuple[str, int]]:
    return [(row["kind"], row["cents"]) for row in ach_svc.LEDGER.rows("SELECT * FROM entries ORDER BY id")]


def test_a_charge_is_recorded_once_for_a_key_and_repeats_its_receipt() -> None:
    first, again = (call("achSvc.charge", {"fee": 75}) for _ in range(2))
    assert (
        first == again == Reply(outcome="done", output={"result": {"charge": "ch-1", "amount": 75, "currency": "USD"}})
    )
    assert entries() == [("charge", 7500)]


def test_another_generation_is_another_charge() -> None:
    call("achSvc.charge", {"fee": 75})
    call("achSvc.charge", {"fee": 75}, generation=2)
    assert entries() == [("charge", 7500), ("charge", 7500)]


def test_the_inputs_amount_comes_before_the_payloads_fee() -> None:
    assert result_of(call("achSvc.charge", {"fee": 75}, given={"amount": 12.5}).output)["amount"] == 12.5


@pytest.mark.parametrize("amount", [0, -1, "much", True, [], 1e12, 0.001, "NaN", "Infinity"])
def test_an_amount_that_is_no_amount_is_rejected(amount: Any) -> None:
    assert call("achSvc.charge", {"fee": amount}).outcome == "rejected"
    assert entries() == []


@pytest.mark.parametrize("result", [None, {"charge": "ch-1"}])
def test_a_refund_finds_its_charge_and_is_made_once(result: Any) -> None:
    call("achSvc.charge", {"fee": 75}, step="chargeFee")
    refunds = [call("achSvc.refund", {"fee": 75}, step="chargeFee", undo=True, result=result) for _ in range(2)]
    assert refunds[0] == refunds[1]
    assert refunds[0].output["result"] == {"refunded": ["ch-1"], "amount": 75, "currency": "USD"}
    assert entries() == [("charge", 7500), ("refund", 7500)]


def test_a_refund_leaves_the_charges_of_other_steps_traces_and_tenants_alone() -> None:
    call("achSvc.charge", {"fee": 1}, step="other")
    call("achSvc.charge", {"fee": 2}, step="chargeFee", trace="f" * 32)
    call("achSvc.charge", {"fee": 3}, step="chargeFee", tenant="county")
    refund = call("achSvc.refund", {}, step="chargeFee", undo=True)
    assert refund.output["result"]["refunded"] == []


def test_a_refund_takes_back_every_generation_that_was_charged() -> None:
    call("achSvc.charge", {"fee": 75})
    call("achSvc.charge", {"fee": 75}, generation=2)
    assert call("achSvc.refund", {}, generation=2, undo=True).output["result"]["refunded"] == ["ch-1", "ch-2"]


def test_a_refund_of_nothing_is_answered_and_blocks_the_charge_that_comes_late() -> None:
    refund = call("achSvc.refund", {}, generation=2, undo=True)
    assert refund.output["result"] == {"refunded": [], "amount": 0, "currency": "USD"}
    for generation in (1, 2):
        late = call("achSvc.charge", {"fee": 75}, generation=generation)
        assert late.outcome == "rejected"
        assert "refunded before" in (late.error or "")
    assert call("achSvc.charge", {"fee": 75}, generation=3).outcome == "done"
    assert entries() == [("charge", 7500)]


def test_the_ledger_is_append_only() -> None:
    call("achSvc.charge", {"fee": 75})
    for sql in ("UPDATE entries SET cents = 1", "DELETE FROM entries"):
        with pytest.raises(sqlite3.IntegrityError, match="append only"):
            ach_svc.LEDGER.rows(sql)
    assert entries() == [("charge", 7500)]


def _charge_in_process(number: int) -> list[Any]:
    """Many threads of one process: keys of their own, and one that all processes share."""
    with ThreadPoolExecutor(4) as pool:
        own = pool.map(lambda n: call("achSvc.charge", {"fee": 1}, step=f"own-{number}-{n}").output, range(5))
        shared = pool.map(lambda _: call("achSvc.charge", {"fee": 2}, step="shared").output, range(5))
        return [*own, *shared]


def test_processes_that_call_at_once_lose_nothing_and_repeat_nothing() -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        outputs = [output for part in pool.map(_charge_in_process, range(3)) for output in part]
    receipts = {output["result"]["charge"] for output in outputs}
    assert len(receipts) == 3 * 5 + 1
    assert sorted(entries()) == [("charge", 100)] * 15 + [("charge", 200)]


def _die_half_way() -> None:
    asked = Call(
        tenant="city",
        trace=TRACE,
        step="step",
        lane="achSvc",
        operation="charge",
        key=f"{TRACE}:step:g1:do",
        attempt=1,
        payload={},
        input={},
        timeout=5,
    )

    def effect(db: sqlite3.Connection) -> None:
        ach_svc._charge(db, asked, 7500)
        os._exit(9)

    ach_svc.LEDGER.once(asked, effect)


def test_a_process_killed_between_effect_and_receipt_leaves_neither() -> None:
    child = multiprocessing.get_context("spawn").Process(target=_die_half_way)
    child.start()
    child.join(30)
    assert child.exitcode == 9
    assert entries() == []
    assert call("achSvc.charge", {"fee": 75}).outcome == "done"
    assert entries() == [("charge", 7500)]


def test_an_effect_that_fails_leaves_no_receipt() -> None:
    assert call("permitSvc.update", {"permitNo": "P-1313"}).outcome == "rejected"
    assert permit_svc.REGISTER.rows("SELECT * FROM receipts") == []


def test_the_register_renews_a_permit_once_for_a_key() -> None:
    first, again = (call("permitSvc.update", {"permitNo": "P-1001", "applicant": "Maria"}) for _ in range(2))
    assert first == again
    assert first.output["result"]["renewals"] == 1
    second = call("permitSvc.update", {"permitNo": "P-1001"}, generation=2)
    assert second.output["result"]["renewals"] == 2
    assert [row["holder"] for row in permit_svc.REGISTER.rows("SELECT holder FROM permits")] == ["Maria"]


@pytest.mark.parametrize(
    ("number", "said"),
    [("X-1", "has no permit 'X-1'"), ("P-0", "has no permit"), (7, "has no permit"), ("P-1313", "was revoked")],
)
def test_the_register_refuses_a_permit_that_is_unknown_or_revoked(number: Any, said: str) -> None:
    reply = call("permitSvc.update", {"permitNo": number})
    assert reply.outcome == "rejected"
    assert said in (reply.error or "")


def test_documents_are_stored_by_trace(data_dir: Path) -> None:
    payload = {"documents": ["deed.pdf", {"name": "plan.txt", "content": "two floors"}]}
    assert call("fileSvc.upload", payload).output == {"result": {"stored": ["deed.pdf", "plan.txt"]}}
    place = data_dir / "lanes" / "files" / "city" / TRACE
    assert sorted(path.name for path in place.iterdir()) == ["deed.pdf", "plan.txt"]
    assert (place / "plan.txt").read_text(encoding="utf-8") == "two floors"


@pytest.mark.parametrize(
    "documents", [["../../escape"], ["/etc/x"], [".."], ["a/b"], [""], [7], [{}], "deed", ["a\0b"]]
)
def test_a_document_that_is_no_file_name_is_rejected_and_nothing_stored(data_dir: Path, documents: Any) -> None:
    given = ["fine.txt", *documents] if isinstance(documents, list) else documents
    assert call("fileSvc.upload", {"documents": given}).outcome == "rejected"
    assert [path for path in data_dir.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("tenant", ["../other", "..", "a/b"])
def test_a_tenants_name_leads_to_no_other_folder(data_dir: Path, tenant: str) -> None:
    call("fileSvc.upload", {"documents": ["deed.pdf"]}, tenant=tenant)
    [stored] = data_dir.rglob("deed.pdf")
    assert len(stored.relative_to(data_dir / "lanes" / "files").parts) == 3
    assert ".." not in stored.parts


@pytest.mark.parametrize("operation", ["send", "notify", "receipt", "askForDocs", "reject"])
def test_a_letter_is_written_once_for_a_key(data_dir: Path, operation: str) -> None:
    first, again = (call(f"notificationSvc.{operation}", {"applicant": "Jane Doe"}) for _ in range(2))
    assert first == again
    assert first.output["result"] == "sent"
    [letter] = (data_dir / "lanes" / "letters" / "city").iterdir()
    assert letter.name == first.output["letter"]
    assert letter.read_text(encoding="utf-8").startswith("Dear Jane Doe,")


def test_a_letter_asks_for_what_is_missing(data_dir: Path) -> None:
    call("notificationSvc.askForDocs", {}, given={"missing": ["site-plan", "insurance"]})
    [letter] = (data_dir / "lanes" / "letters" / "city").iterdir()
    assert "Please send what is missing: site-plan, insurance." in letter.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("service", "officer"),
    [
        ("zoningPortal.approve", "zoning-officer"),
        ("zoningPortal.backup", "zoning-deputy"),
        ("approvalSvc.approve", "reviewer"),
        ("approvalSvc.backup", "backup-reviewer"),
    ],
)
def test_an_officer_gets_the_callback_url_and_answers_later(data_dir: Path, service: str, officer: str) -> None:
    for _ in range(2):
        reply = call(service, {"permitNo": "P-1"}, callback_url="http://127.0.0.1/callbacks/t/s?token=x")
        assert reply == Reply(outcome="done", later=True)
    [paper] = (data_dir / "lanes" / "inbox" / "city" / officer).iterdir()
    assert json.loads(paper.read_text(encoding="utf-8"))["callbackUrl"] == "http://127.0.0.1/callbacks/t/s?token=x"
    assert paper.stat().st_mode & 0o077 == 0, "the URL holds a token"


def test_an_officer_who_could_not_answer_is_not_asked() -> None:
    assert call("zoningPortal.approve", {}).outcome == "rejected"


def test_checks_find_what_is_missing_by_the_documents_names() -> None:
    payload = {"documents": [{"name": "insurance.txt"}, "deed.pdf"]}
    assert call("insuranceSvc.check", payload).output == {"result": {"complete": True, "missing": []}}
    assert call("zoningSvc.check", payload).output == {"result": {"complete": False, "missing": ["site-plan"]}}


def test_validation_says_ok_and_what_is_missing() -> None:
    assert call("validationSvc.validate", {"applicant": "Jane Doe", "plans": {"storeys": 2}}).output == {
        "result": "ok",
        "missing": [],
    }
    assert call("validationSvc.validate", {}).output == {"result": "ok", "missing": ["applicant", "plans"]}
    assert call("validationSvc.validate", {"applicant": 7}).outcome == "rejected"


def test_a_paper_is_written_whole_by_the_first_and_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "paper"
    with ThreadPoolExecutor(8) as pool:
        wrote = list(pool.map(lambda n: (write_once(path, f"{n}" * 10_000), n), range(8)))
    [winner] = [number for first, number in wrote if first]
    assert path.read_text(encoding="utf-8") == f"{winner}" * 10_000
    assert list(tmp_path.iterdir()) == [path]


def _sample(name: str) -> Any:
    return json.loads((REPOSITORY / "samples" / name).read_text(encoding="utf-8"))


def _operations(step: Step) -> Iterator[Operation]:
    if isinstance(step, ServiceStep):
        named = (
            step.operation,
            step.compensation and step.compensation.operation,
            step.escalation and step.escalation.to,
        )
        yield from (operation for operation in named if operation)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "workflows").iterdir()), ids=lambda path: path.name)
def test_every_operation_that_a_workflow_names_exists(path: Path) -> None:
    definition = loader.load(path.read_text(encoding="utf-8"), file=str(path), lanes=LANES)
    operations = [operation for step in walk(definition.steps) for operation in _operations(step)]
    assert operations
    for operation in operations:
        assert callable(local.find(LANES[operation.lane], operation.name))


@pytest.mark.parametrize("path", sorted((REPOSITORY / "workflows").iterdir()), ids=lambda path: path.name)
def test_every_workflow_loads_with_the_repositorys_lanes(path: Path) -> None:
    loader.load(path.read_text(encoding="utf-8"), file=str(path), lanes=LANES)


@pytest.mark.parametrize(
    ("sample", "last"), [("permit-renewal.json", "done"), ("permit-renewal-fails.json", "rejected")]
)
def test_the_samples_fail_only_where_their_name_says(sample: str, last: str) -> None:
    payload = _sample(sample)
    services = ("fileSvc.upload", "achSvc.charge", "permitSvc.update")
    assert [call(service, payload).outcome for service in services] == ["done", "done", last]


def test_the_building_permit_sample_is_complete() -> None:
    assert call("validationSvc.validate", _sample("building-permit.json")).output["missing"] == []
