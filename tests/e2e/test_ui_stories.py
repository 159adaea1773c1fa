"""Whole stories through the pages, in a real browser: what an operator, a reviewer and a clerk do and see."""

from __future__ import annotations

import re
from itertools import count

import pytest
from playwright.sync_api import Page, expect

from orchestrator import engine
from tests import flights, services
from tests.city import City, renewal

pytestmark = pytest.mark.e2e

numbers = (f"STR-2027-{number:04}" for number in count(1))


def marked(page: Page) -> None:
    """A page that is loaded anew loses the mark."""
    page.evaluate("document.documentElement.dataset.marked = 'yes'")


def assert_never_reloaded(page: Page) -> None:
    assert page.evaluate("document.documentElement.dataset.marked") == "yes"


def is_live(page: Page) -> None:
    expect(page.locator("#live")).to_have_text("This page is live.")


def start(page: Page, town: City, number: str) -> str:
    """By the form of the definition's page; the instance's id."""
    page.goto(f"{town.site}/ui/workflows/permit-renewal")
    page.get_by_label("Payload (JSON)").fill(f'{{"permitNo": "{number}", "applicant": "Maria Lopez"}}')
    page.get_by_role("button", name="Start the newest version").click()
    expect(page.get_by_role("status").filter(has_text="Started.")).to_be_visible()
    return page.url.rpartition("/")[2]


def test_a_renewal_is_started_reviewed_and_done_while_a_page_looks_on(desk: Page, other_desk: Page, town: City) -> None:
    number = next(numbers)
    instance = start(desk, town, number)
    expect(desk.locator(".heading .state")).to_have_text(re.compile("Waiting"))  # it came by itself
    is_live(desk)
    marked(desk)

    other_desk.goto(f"{town.site}/ui/inbox")
    card = other_desk.get_by_role("listitem").filter(has_text=number)
    expect(card).to_contain_text("it goes to zoningPortal.deputy, which has 1 d")
    card.get_by_role("link", name="Review").click()
    expect(other_desk.get_by_role("definition").filter(has_text="Maria Lopez").first).to_be_visible()
    other_desk.get_by_label("Comment").fill("Plans are in order")
    other_desk.get_by_role("button", name="Approve").click()
    expect(other_desk.locator(".notice")).to_have_text("“Zoning approval” is approved.")
    expect(other_desk.locator(".verdict")).to_contain_text("Approved by local")

    expect(desk.locator(".heading .state")).to_have_text(re.compile("Completed"))
    expect(desk.locator("#said")).to_have_text("Completed")
    assert_never_reloaded(desk)
    assert town.airport.ended(instance)["status"] == "COMPLETED"


def test_what_fails_is_undone_gets_stuck_and_goes_on_when_an_operator_retries(desk: Page, town: City) -> None:
    number = next(numbers)
    stuck = town.stuck(number)
    desk.goto(f"{town.site}/ui")
    trouble = desk.locator("[data-part=trouble]")
    trouble.get_by_role("row").filter(has_text=number).get_by_role("link").click()
    expect(desk.get_by_role("heading", name="Needs a person")).to_be_visible()
    expect(desk.locator("[data-part=unsettled]")).to_contain_text("could not be done")
    is_live(desk)
    desk.get_by_role("button", name="Retry", exact=True).click()
    expect(desk.locator(".notice")).to_contain_text("It is being tried again")
    expect(desk.locator(".heading .state")).to_have_text(re.compile("Failed and undone"))
    assert town.airport.ended(stuck)["status"] == "COMPENSATED"
    expect(desk.locator("[data-part=undone]")).to_contain_text("Undone")


def test_an_uncertain_step_is_settled_by_a_verdict_and_a_result(desk: Page, town: City) -> None:
    uncertain = town.uncertain(next(numbers))
    town.airport.clock.advance(3600)  # by now the attempt is surely over
    desk.goto(f"{town.site}/ui/instances/{uncertain}")
    desk.get_by_label("It was done").check()
    desk.get_by_label("Result of").fill("{not json")
    desk.get_by_role("button", name="Settle").click()
    expect(desk.locator(".notice.bad")).to_contain_text("the result is not JSON")
    desk.get_by_label("It was done").check()
    desk.get_by_label("Result of").fill('{"entry": 12}')
    desk.get_by_role("button", name="Settle").click()
    expect(desk.locator(".notice.good")).to_contain_text("recorded as done")
    shown = town.airport.ended(uncertain)
    assert (shown["status"], shown["steps"][0]["result"]) == ("COMPLETED", {"entry": 12})


def test_a_rejection_undoes_and_its_comment_is_shown(desk: Page, town: City) -> None:
    instance = town.waiting(next(numbers))
    desk.goto(f"{town.site}/ui/instances/{instance}")
    desk.get_by_label("Comment").fill("<b>A second unit</b>")
    desk.get_by_role("button", name="Reject").click()
    expect(desk.locator(".notice")).to_have_text("“Zoning approval” is rejected.")
    expect(desk.locator(".heading .state")).to_have_text(re.compile("Failed and undone"))
    expect(desk.get_by_role("region", name="Steps")).to_contain_text("<b>A second unit</b>")
    assert town.airport.ended(instance)["status"] == "COMPENSATED"


def test_whoever_decides_second_is_told_who_was_first(desk: Page, other_desk: Page, town: City) -> None:
    instance = town.waiting(next(numbers))
    # The stream is kept from the second, who would else see it before he presses.
    desk.route("**/ui/events*", lambda route: route.abort())
    desk.goto(f"{town.site}/ui/inbox/{instance}/zoningApproval")
    other_desk.goto(f"{town.site}/ui/inbox/{instance}/zoningApproval")
    other_desk.get_by_label("Comment").fill("I know the house")
    other_desk.get_by_role("button", name="Approve").click()
    expect(other_desk.locator(".notice")).to_contain_text("approved")
    desk.get_by_role("button", name="Reject").click()
    expect(desk.locator(".notice.bad")).to_have_text(
        "“Zoning approval” was already approved by local (“I know the house”). Your decision changes nothing."
    )
    assert desk.get_by_role("button", name="Approve").count() == 0


def test_a_decision_made_elsewhere_takes_the_form_away(desk: Page, town: City) -> None:
    instance = town.waiting(next(numbers))
    desk.goto(f"{town.site}/ui/inbox/{instance}/zoningApproval")
    is_live(desk)
    marked(desk)
    town.airport.decide(instance, "zoningApproval", decision="rejected", by="j.okafor")
    expect(desk.locator(".verdict")).to_contain_text("Rejected by j.okafor")
    assert desk.get_by_role("button", name="Approve").count() == 0
    assert_never_reloaded(desk)


def test_what_somebody_types_opens_and_looks_at_outlives_a_change(desk: Page, town: City) -> None:
    first, second = next(numbers), next(numbers)
    instance = town.waiting(first)
    desk.goto(f"{town.site}/ui/instances?q={first[:8]}")
    is_live(desk)
    box = desk.get_by_role("checkbox", name=f"Choose Short-term rental permit {first}")
    box.check()
    town.waiting(second)
    expect(desk.get_by_role("row").filter(has_text=second)).to_be_visible()
    expect(box).to_be_checked()
    expect(box).to_be_focused()

    desk.goto(f"{town.site}/ui/instances/{instance}")
    is_live(desk)
    comment = desk.get_by_label("Comment")
    comment.fill("Half a sen")
    desk.get_by_text(re.compile(r"\d+ transitions")).click()
    before = desk.get_by_text(re.compile(r"\d+ transitions")).inner_text()
    comment.focus()
    town.airport.order(engine.suspend, instance)
    expect(desk.locator(".heading .state")).to_have_text(re.compile("Suspended"))
    expect(desk.get_by_text(re.compile(r"\d+ transitions"))).not_to_have_text(before)
    expect(desk.get_by_role("region", name="History")).to_be_visible()
    expect(comment).to_have_value("Half a sen")
    expect(comment).to_be_focused()


def test_orders_to_several_are_confirmed_and_those_that_do_not_fit_are_named(desk: Page, town: City) -> None:
    first, second = next(numbers), next(numbers)
    waits, over = town.waiting(first), town.done(second)
    desk.goto(f"{town.site}/ui/instances?q=STR-2027")
    for number in (first, second):
        desk.get_by_role("checkbox", name=f"Choose Short-term rental permit {number}").check()
    desk.get_by_role("button", name="Suspend…").click()
    expect(desk.get_by_role("heading", level=1)).to_have_text("Suspend 2 instances?")
    assert flights.status(town.airport.system, waits)["status"] == "WAITING"
    desk.get_by_role("button", name="Yes, suspend").click()
    expect(desk.locator(".notice.wait")).to_contain_text("1 instance is suspended.")
    expect(desk.locator(".notice.wait")).to_contain_text(f"instance {over} is COMPLETED and cannot be suspended")
    assert "q=STR-2027" in desk.url  # back where it was ordered
    desk.reload()
    assert desk.locator(".notice").count() == 0


def test_all_that_match_a_filter_are_ordered_once_their_number_was_confirmed(desk: Page, town: City) -> None:
    instances = [town.start("business-licence", {"permitNo": f"BL-2031-{number}"}) for number in range(3)]
    for one in instances:
        town.airport.step_is(one, "inspection", "WAITING")
    desk.goto(f"{town.site}/ui/instances")
    assert desk.get_by_role("link", name="Suspend all…").count() == 0  # nothing was asked for: that would be everything
    desk.get_by_label("Search").fill("BL-2031-")
    desk.get_by_role("button", name="Filter").click()
    desk.get_by_role("link", name="Suspend all…").click()
    expect(desk.get_by_role("heading", level=1)).to_have_text("Suspend 3 instances?")
    desk.get_by_role("button", name="Yes, suspend 3").click()
    expect(desk.locator(".notice")).to_have_text("3 instances are suspended.")
    assert "q=BL-2031-" in desk.url
    expect(desk.locator("tbody .state").filter(has_text="Suspended")).to_have_count(3)


def test_orders_for_nobody_ask_for_somebody(desk: Page, town: City) -> None:
    town.waiting(next(numbers))
    desk.goto(f"{town.site}/ui/instances")
    desk.get_by_role("button", name="Cancel…").click()
    expect(desk.locator(".notice.bad")).to_contain_text("Choose the instances first")


def test_a_cancel_is_asked_about_before_it_undoes(desk: Page, town: City) -> None:
    instance = town.waiting(next(numbers))
    desk.goto(f"{town.site}/ui/instances/{instance}")
    desk.get_by_role("button", name="Cancel…").click()
    expect(desk.get_by_role("main")).to_contain_text("This cannot be taken back")
    desk.get_by_role("link", name="No, go back").click()
    assert flights.status(town.airport.system, instance)["status"] == "WAITING"
    desk.get_by_role("button", name="Cancel…").click()
    desk.get_by_role("button", name="Yes, cancel").click()
    expect(desk.locator(".heading .state")).to_have_text(re.compile("Cancelled"))
    assert town.airport.ended(instance)["status"] == "CANCELLED"


def test_an_order_that_does_not_fit_any_more_is_a_message_and_no_error_page(desk: Page, town: City) -> None:
    instance = town.waiting(next(numbers))
    desk.route("**/ui/events*", lambda route: route.abort())
    desk.goto(f"{town.site}/ui/instances/{instance}")
    town.airport.order(engine.suspend, instance)
    desk.get_by_role("button", name="Suspend").click()
    expect(desk.locator(".notice.bad")).to_contain_text("Nothing was changed")
    expect(desk.get_by_role("button", name="Resume")).to_be_visible()


def test_a_clerk_finds_a_permit_by_its_number_and_sees_it_move(desk: Page, town: City) -> None:
    number = next(numbers)
    instance = town.waiting(number)
    desk.goto(f"{town.site}/ui/where")
    desk.get_by_label("Its number").fill(number)
    desk.get_by_role("button", name="Look it up").click()
    expect(desk.locator(".serving")).to_contain_text("Now serving: Zoning approval")
    stones = desk.locator(".stones li")
    expect(stones).to_have_count(7)
    expect(stones.nth(4)).to_have_attribute("aria-current", "step")
    main = desk.get_by_role("main").inner_text()
    assert not [word for word in ("zoningPortal", "RUNNING", "attempt", instance) if word in main]
    is_live(desk)
    marked(desk)
    town.airport.decide(instance, "zoningApproval", decision="approved")
    expect(desk.locator(".serving")).to_contain_text("Finished")
    expect(stones.nth(6)).to_contain_text("Done")
    assert_never_reloaded(desk)


def test_a_number_nobody_knows_is_said_to_be_unknown(desk: Page, town: City) -> None:
    desk.goto(f"{town.site}/ui/where?key=STR-1999-0000")
    expect(desk.get_by_role("status").filter(has_text="Nothing is known")).to_be_visible()


def test_everything_can_be_read_and_decided_without_script(plain: Page, town: City) -> None:
    number = next(numbers)
    instance = town.waiting(number)
    plain.goto(f"{town.site}/ui/instances?q={number}")
    plain.get_by_role("link", name="Short-term rental permit").click()
    expect(plain.get_by_role("img").or_(plain.get_by_role("group")).first).to_be_visible()
    plain.get_by_text(re.compile(r"\d+ transitions")).click()
    expect(plain.get_by_role("region", name="History")).to_be_visible()
    plain.get_by_label("Comment").fill("By hand")
    plain.get_by_role("button", name="Approve").click()
    expect(plain.locator(".notice")).to_have_text("“Zoning approval” is approved.")
    assert town.airport.ended(instance)["status"] == "COMPLETED"


def test_a_payload_that_does_not_fit_is_shown_again_with_its_faults(desk: Page, town: City) -> None:
    desk.goto(f"{town.site}/ui/workflows/permit-renewal")
    desk.get_by_label("Payload (JSON)").fill('{"permitNo": NaN}')
    desk.get_by_role("button", name="Start the newest version").click()
    expect(desk.get_by_role("alert")).to_contain_text("NaN is not JSON")
    expect(desk.get_by_label("Payload (JSON)")).to_have_value('{"permitNo": NaN}')


def test_a_definitions_page_counts_who_is_on_which_version(desk: Page, town: City) -> None:
    text = "id: two-versions\ntitle: Two versions\nsteps:\n  - {id: ask, pause: true}\n"
    town.airport.fly(text)
    town.airport.fly(text.replace("ask", "askAgain"))
    desk.goto(f"{town.site}/ui/workflows/two-versions")
    rows = desk.get_by_role("region", name="Versions").get_by_role("row")
    expect(rows.nth(1)).to_contain_text("2")
    rows.nth(2).get_by_role("link", name="1 instances on version 1").click()
    expect(desk.get_by_role("row").filter(has_text="Two versions")).to_have_count(1)
    desk.goto(f"{town.site}/ui/workflows/two-versions?version=1")
    expect(desk.locator(".about")).to_contain_text("not the newest")
    expect(desk.get_by_role("region", name="Its text")).to_contain_text("id: ask")


def test_an_escalated_wait_is_late_and_says_who_has_it_now(desk: Page, town: City) -> None:
    number = next(numbers)
    instance = town.waiting(number)
    town.airport.clock.advance(49 * 3600)
    flights.until(lambda: town.service.calls("deputy", instance), "the escalation")
    town.airport.step_is(instance, "zoningApproval", "WAITING")
    desk.goto(f"{town.site}/ui/inbox/{instance}/zoningApproval")
    expect(desk.get_by_role("definition").filter(has_text="zoningPortal.deputy")).to_be_visible()
    desk.goto(f"{town.site}/ui/instances?late=1&key={number}")
    expect(desk.get_by_role("row").filter(has_text=number)).to_have_count(1)
    town.airport.clock.advance(-49 * 3600)


def test_a_lane_shows_what_is_in_flight_and_what_waits(desk: Page, town: City) -> None:
    held = town.service.hold("upload")
    town.start("permit-renewal", renewal(next(numbers)))
    town.service.came("upload")
    desk.goto(f"{town.site}/ui/lanes")
    row = desk.get_by_role("row").filter(has_text="fileSvc")
    expect(row.get_by_role("cell").nth(3)).to_have_text("1")
    held.set()
    expect(row.get_by_role("cell").nth(3)).to_have_text("0")  # by itself


def test_html_in_a_payload_is_text(desk: Page, town: City) -> None:
    evil = "<img src=x onerror=alert(1)>"
    instance = town.start("permit-renewal", {"permitNo": f"{next(numbers)}{evil}", "<script>": {"note": evil}})
    town.airport.step_is(instance, "zoningApproval", "WAITING")
    for path in ("/ui", "/ui/inbox", f"/ui/inbox/{instance}/zoningApproval", f"/ui/instances/{instance}",
                 f"/ui/where/{instance}", f"/callbacks/{instance}/zoningApproval"):  # fmt: skip
        desk.goto(town.site + path)
        assert desk.locator("main img, main script").count() == 0
        expect(desk.get_by_text(evil).first).to_be_attached()


def test_another_sites_form_changes_nothing(desk: Page, town: City) -> None:
    instance = town.waiting(next(numbers))
    form = f"<form method=post action='{town.site}/ui/instances/{instance}/suspend'><button>Win a prize</button></form>"
    desk.route("http://other.test/", lambda route: route.fulfill(body=form, content_type="text/html"))
    desk.goto("http://other.test/")
    desk.get_by_role("button").click()
    expect(desk.get_by_role("heading", level=1)).to_have_text("Not allowed")
    assert flights.status(town.airport.system, instance)["status"] == "WAITING"
    assert services.verbs(flights.status(town.airport.system, instance))[-1:] != ["suspend"]
