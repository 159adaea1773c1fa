"""The samples on the whole stack: each ends as its table line says, and the other ways that it can go are gone, too."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks import case_svc, inspection_svc, licence_svc, permit_svc, street_svc
from tests import flights
from tests import tower as towers
from tests.tower import DAY, ROOT, Tower, letters, money, papers

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def tower() -> Iterator[Tower]:
    with towers.tower() as found:
        yield found


def sample(workflow: str, **changed: Any) -> Any:
    return json.loads((ROOT / "samples" / f"{workflow}.json").read_text(encoding="utf-8")) | changed


def workflow_ids() -> list[str]:
    """Of all files in workflows/."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "workflows").iterdir())]
    return [re.findall(r'^\s*"?id"?: "?([a-z0-9-]+)', text, re.MULTILINE)[0] for text in texts]


# Each sample to its end, with `make run`'s own command


@dataclass(frozen=True, kw_only=True)
class Flown:
    """What a sample leaves behind."""

    charged: int = 0  # cents
    letters: tuple[str, ...] = ()  # a piece of each
    also: Callable[[str], bool] = lambda _: True


def renewed(_: str) -> bool:
    rows = permit_svc.REGISTER.rows("SELECT number FROM permits")
    return {"P-1001", "P-1002"} >= {row["number"] for row in rows} != set()


def licence(trace: str) -> str | None:
    """The conditions of the licence that is valid; None where none is."""
    rows = licence_svc.BOOK.rows("SELECT conditions FROM licences WHERE trace = ? AND revoked IS NULL", trace)
    return rows[0]["conditions"] if rows else None


def case(trace: str) -> tuple[str, int | None]:
    [row] = case_svc.FILES.rows("SELECT state, monthly FROM cases WHERE trace = ?", trace)
    return row["state"], row["monthly"]


def street(trace: str) -> tuple[str, int]:
    [row] = street_svc.CLOSURES.rows("SELECT state, signs FROM closures WHERE trace = ?", trace)
    return row["state"], row["signs"]


def appointments(trace: str) -> list[bool]:
    """Whether each that the instance made still stands."""
    rows = inspection_svc.DIARY.rows("SELECT released FROM appointments WHERE trace = ? ORDER BY id", trace)
    return [row["released"] is None for row in rows]


FLOWN = {
    "permit-renewal": Flown(charged=7500, also=renewed),
    "building-permit": Flown(letters=("has been decided",), also=lambda trace: len(papers(trace, "reviewer")) == 1),
    "permit-renewal-approval": Flown(charged=7500, letters=("your permit is up to date",), also=renewed),
    "business-licence": Flown(
        charged=24_000, letters=("with conditions:\n- fit a second sink within 60 days\n",),
        also=lambda trace: licence(trace) == "fit a second sink within 60 days" and appointments(trace) == [True, True],
    ),
    "benefit-application": Flown(
        letters=("320 dollars a month",), also=lambda trace: case(trace) == ("awarded", 320),
    ),
    "site-inspection": Flown(also=lambda trace: appointments(trace) == [True]),
    "street-closure": Flown(
        charged=6000, letters=("Mill Lane is open again",), also=lambda trace: street(trace) == ("open", 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("workflow", workflow_ids())
def test_a_sample_completes_once_and_leaves_what_it_should(tower: Tower, workflow: str) -> None:
    ended = tower.command("run", workflow, f"samples/{workflow}.json", "--approve")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    trace, expected = ended.stdout[1:33], FLOWN[workflow]
    assert tower.status(trace)["status"] == "COMPLETED"
    assert money(trace) == ([("charge", expected.charged)] if expected.charged else [])
    written = letters(trace)
    assert len(written) == len(expected.letters)
    assert all(piece in letter for piece, letter in zip(expected.letters, written, strict=True)), written
    assert expected.also(trace)


def test_every_step_of_a_sample_has_a_title_in_plain_words(tower: Tower) -> None:
    """All but the seeds' own: a citizen sees them in the control tower."""
    for workflow in set(workflow_ids()) - {"permit-renewal", "building-permit"}:
        text = tower.ask(f"/api/definitions/{workflow}").body["text"]
        steps = re.findall(r"^ *- id: (\w+)\n +(\w+)", text, re.MULTILINE)
        assert steps
        assert [step for step, following in steps if following not in ("title", "end")] == [], workflow


def test_make_run_flies_the_sample_of_the_workflow_that_is_named_and_the_readmes_two_without() -> None:
    def recipe(*given: str) -> str:
        return subprocess.run(
            ["make", "-n", "run", *given], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

    assert "orchestrator run street-closure samples/street-closure.json --approve\n" in recipe(
        "WORKFLOW=street-closure"
    )
    plain = recipe()
    assert "orchestrator run permit-renewal samples/permit-renewal.json\n" in plain
    assert "orchestrator run permit-renewal samples/permit-renewal-fails.json; test $? -eq 1\n" in plain


# `run --approve`


def test_run_approves_the_waits_of_sub_workflows_too_and_gives_no_address(tower: Tower, tmp_path: Path) -> None:
    tower.put("id: inner\nsteps:\n  - {id: ask, pause: true}\n")
    tower.put("id: outer\nsteps:\n  - {id: child, workflow: inner}\n  - {id: askAgain, pause: true}\n")
    (tmp_path / "empty.json").write_text("{}")
    ended = tower.command("run", "outer", str(tmp_path / "empty.json"), "--approve")
    assert ended.returncode == 0, ended.stderr
    assert "decide with a POST" not in ended.stderr
    shown = tower.step(ended.stdout[1:33], "askAgain")
    assert shown is not None
    assert (shown["decision"], shown["comment"]) == ("approved", "by `orchestrator run --approve`")


def test_run_cannot_both_leave_at_a_wait_and_approve_it() -> None:
    ended = towers.run("run", "permit-renewal", "samples/permit-renewal.json", "--approve", "--no-wait")
    assert ended.returncode == 2
    assert "say one of --no-wait, --approve" in ended.stderr


# A business licence: the other ways


def licensed(tower: Tower, *, premises: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    whole = sample("business-licence", **changed)
    whole["premises"] |= premises or {}
    return tower.ended(tower.start("business-licence", whole))


def test_premises_without_a_fault_get_a_licence_without_conditions(tower: Tower) -> None:
    shown = licensed(tower, premises={"sinks": 2})
    assert (shown["status"], shown["reason"], licence(shown["traceId"])) == ("COMPLETED", None, "")
    [letter] = letters(shown["traceId"])
    assert "is granted." in letter


def test_a_refusal_is_an_answer_and_keeps_the_fee(tower: Tower) -> None:
    shown = licensed(tower, premises={"exits": 1, "zone": "residential"})
    trace = shown["traceId"]
    assert (shown["status"], shown["reason"], shown["compensations"]) == ("COMPLETED", "refused", [])
    assert money(trace) == [("charge", 24_000)]
    assert licence(trace) is None
    [letter] = letters(trace)
    assert "refused:\n- there is no second way out\n- no business may open in a residential zone\n" in letter


def test_an_owner_who_is_barred_is_the_reason_of_a_refusal(tower: Tower) -> None:
    shown = licensed(tower, owners=[{"name": "Ada", "idNo": "ID-1042"}, {"name": "Max", "idNo": "ID-6660"}])
    assert shown["reason"] == "refused"
    [letter] = letters(shown["traceId"])
    assert "- Max is barred by the court until 2031\n" in letter
    assert "Ada" not in letter


def test_an_inspection_that_fails_releases_the_appointments_and_refunds_the_fee(tower: Tower) -> None:
    shown = licensed(tower, premises={"zone": "lunar"})
    trace = shown["traceId"]
    assert shown["status"] == "COMPENSATED"
    assert shown["steps"][-1]["step"] != "outcome"
    assert money(trace) == [("charge", 24_000), ("refund", 24_000)]
    assert True not in appointments(trace)
    assert [one["step"] for one in shown["compensations"]][-1] == "chargeFee", "what was done first is undone last"
    assert letters(trace) == []


def test_a_form_that_cannot_be_right_goes_back_before_anything_is_charged(tower: Tower) -> None:
    shown = licensed(tower, trade="piracy")
    assert (shown["status"], shown["reason"], money(shown["traceId"])) == ("COMPLETED", "form incomplete", [])
    [letter] = letters(shown["traceId"])
    assert "'piracy' is not one of the trades" in letter


@pytest.mark.parametrize("missing", ["applicant", "owners", "premises", "fee"])
def test_a_licence_without_what_the_form_asks_for_is_not_even_started(tower: Tower, missing: str) -> None:
    payload = sample("business-licence")
    del payload[missing]
    answer = tower.ask("/api/workflows/start", {"workflowId": "business-licence", "payload": payload})
    assert answer.status == 422
    assert missing in json.dumps(answer.body)


# A benefit


def applied(tower: Tower, **changed: Any) -> str:
    return tower.start("benefit-application", sample("benefit-application", **changed))


def test_documents_that_come_by_the_callback_complete_the_case_and_a_review_awards_it(tower: Tower) -> None:
    trace = applied(tower, documents=["identity.pdf"])
    for round_, (document, missing) in enumerate([("income-may.pdf", ["income", "rent"]), ("rent.pdf", ["rent"])]):
        tower.step_is(trace, f"askForDocuments[{round_}]", "WAITING")
        paper = papers(trace, "citizen")[round_]
        assert paper["input"] == {"missing": missing}
        answer = tower.ask(paper["callbackUrl"], {"result": {"documents": [{"name": document}]}})
        assert answer.status == 200
    tower.step_is(trace, "review", "WAITING")
    [paper] = papers(trace, "case-reviewer")
    assert tower.ask(paper["callbackUrl"], {"decision": "approved"}).status == 200
    shown = tower.ended(trace)
    assert (shown["status"], shown["reason"], case(trace)) == ("COMPLETED", None, ("awarded", 320))
    names = case_svc.FILES.rows("SELECT name FROM documents WHERE trace = ? ORDER BY name", trace)
    assert [row["name"] for row in names] == ["identity.pdf", "income-may.pdf", "rent.pdf"]


def test_a_complete_application_is_asked_for_nothing(tower: Tower) -> None:
    trace = applied(tower, documents=["identity.pdf", "income.pdf", "rent.pdf"])
    tower.step_is(trace, "review", "WAITING")
    assert tower.step_is(trace, "untilComplete", "SKIPPED")
    assert papers(trace, "citizen") == []
    assert tower.ask(f"/api/workflows/{trace}/cancel", {}).status == 202
    assert tower.ended(trace)["status"] == "CANCELLED"
    assert case(trace) == ("closed", None)


def test_documents_that_never_come_close_the_case_after_three_rounds(tower: Tower) -> None:
    trace = applied(tower)
    for round_ in range(3):
        tower.step_is(trace, f"askForDocuments[{round_}]", "WAITING")
        tower.clock.advance(14 * DAY + 60)
        tower.step_is(trace, f"askForDocuments[{round_}]", "SKIPPED")
    shown = tower.ended(trace)
    assert (shown["status"], shown["reason"]) == ("COMPLETED", "documents missing")
    loop = next(one for one in shown["steps"] if one["step"] == "untilComplete")
    assert (loop["status"], loop["reason"]) == ("FAILED", "exhausted")
    assert case(trace) == ("closed", None)
    [letter] = letters(trace)
    assert "You may apply again" in letter
    assert papers(trace, "case-reviewer") == []


def test_a_reviewer_who_is_silent_is_passed_over_and_a_refusal_is_written(tower: Tower) -> None:
    trace = applied(tower, documents=["identity.pdf", "income.pdf", "rent.pdf"])
    tower.step_is(trace, "review", "WAITING")
    [late] = papers(trace, "case-reviewer")
    tower.clock.advance(10 * DAY + 60)
    [head] = flights.until(lambda: papers(trace, "head-of-office"), "the head of the office is told")
    assert tower.ask(late["callbackUrl"], {"decision": "approved"}).status == 410
    refusal = {"decision": "rejected", "comment": "The income is above the limit"}
    assert tower.ask(head["callbackUrl"], refusal).status == 200
    shown = tower.ended(trace)
    assert (shown["status"], shown["reason"], case(trace)) == ("COMPLETED", "refused", ("closed", None))
    [letter] = letters(trace)
    assert "You may appeal" in letter


def test_the_command_line_sends_documents_and_refuses_as_the_page_on_the_samples_says(tower: Tower) -> None:
    page = (ROOT / "docs" / "how-to" / "run-the-samples.md").read_text(encoding="utf-8")
    start, *decisions = re.findall(r"^\$ orchestrator ((?:start|approve) .*)$", page, re.MULTILINE)
    trace = tower.command(*shlex.split(start)).stdout.strip()
    for step, line in zip(("askForDocuments[0]", "review"), decisions, strict=True):
        tower.step_is(trace, step, "WAITING")
        decided = tower.command(*shlex.split(line.replace("ID", trace)))
        assert decided.returncode == 0, decided.stderr
    shown = tower.ended(trace)
    assert (shown["status"], shown["reason"]) == ("COMPLETED", "refused")
    [letter] = letters(trace)
    assert "You may appeal" in letter


def test_an_applicant_who_withdraws_has_the_case_closed(tower: Tower) -> None:
    trace = applied(tower)
    tower.step_is(trace, "askForDocuments[0]", "WAITING")
    [paper] = papers(trace, "citizen")
    assert tower.ask(paper["callbackUrl"], {"decision": "rejected", "comment": "I found work"}).status == 200
    shown = tower.ended(trace)
    assert (shown["status"], shown["reason"], case(trace)) == ("COMPENSATED", "rejected", ("closed", None))


# A street closure


def closure(tower: Tower, name: str, **changed: Any) -> str:
    """Of a street, for fourteen hours in ten days by the database's clock."""
    begins = tower.clock.now() + timedelta(days=10)
    ends = begins + timedelta(hours=14)
    times = {"from": begins.isoformat(), "to": ends.isoformat()}
    return tower.start("street-closure", sample("street-closure", street=name, **times, **changed))


def test_a_street_is_signposted_the_day_before_closed_on_the_day_and_open_at_the_end(tower: Tower) -> None:
    trace = closure(tower, "Harbour Street")
    tower.step_is(trace, "untilTheDayBefore", "WAITING")
    assert street(trace) == ("reserved", 0)
    tower.clock.advance(9 * DAY + 60)
    tower.step_is(trace, "untilTheDay", "WAITING")
    assert street(trace) == ("reserved", 1)
    tower.clock.advance(DAY)
    tower.step_is(trace, "untilTheEnd", "WAITING")
    assert street(trace) == ("closed", 1)
    tower.clock.advance(14 * 3600)
    assert tower.ended(trace)["status"] == "COMPLETED"
    assert street(trace) == ("open", 0)
    assert money(trace) == [("charge", 6000)]


def test_a_closure_that_is_cancelled_while_the_street_is_closed_opens_it_and_gives_all_back(tower: Tower) -> None:
    trace = closure(tower, "Elm Street")
    tower.step_is(trace, "untilTheDayBefore", "WAITING")
    tower.clock.advance(10 * DAY + 60)
    tower.step_is(trace, "untilTheEnd", "WAITING")
    assert street(trace) == ("closed", 1)
    assert tower.ask(f"/api/workflows/{trace}/cancel", {}).status == 202
    shown = tower.ended(trace)
    assert shown["status"] == "CANCELLED"
    undone = ["closeStreet", "putUpSigns", "inspection", "chargeFee", "reserve"]
    assert [one["step"] for one in shown["compensations"]] == undone, "the reverse of the order in which it was done"
    assert street(trace) == ("free", 0)
    assert money(trace) == [("charge", 6000), ("refund", 6000)]


def test_an_inspection_that_stops_a_closure_undoes_itself_and_what_was_done_before(tower: Tower) -> None:
    trace = closure(tower, "Mill Lane", blocksHydrant=True)
    shown = tower.ended(trace)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "child")
    assert street(trace) == ("free", 0)
    assert money(trace) == [("charge", 6000), ("refund", 6000)]
    [child] = tower.ask("/api/workflows?workflowId=site-inspection&reason=unsafe").body["items"]
    assert child["status"] == "COMPENSATED"
    assert appointments(child["instanceId"]) == [False]


def test_a_street_that_is_closed_then_already_is_refused_before_anything_is_paid(tower: Tower) -> None:
    first = closure(tower, "Station Road")
    tower.step_is(first, "untilTheDayBefore", "WAITING")
    second = tower.ended(closure(tower, "Station Road"))
    assert (second["status"], money(second["traceId"])) == ("FAILED", [])
    assert f"closed at that time already (reference {first})" in second["steps"][0]["error"]
