from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from orchestrator import graph, graph_layout, graph_mermaid, graph_style, graph_svg, states
from orchestrator.definition import Case, Definition, Expression, ForEachStep, Step, SwitchStep, sequences, walk
from orchestrator.graph_states import Tally
from orchestrator.loader import load

SVG = "{http://www.w3.org/2000/svg}"
NESTED = """\
id: nested
title: 'A "quoted" <b>title</b> & more'
steps:
  - {id: end, service: a.one, compensate: a.undo}
  - id: review
    when: payload.fee > 0
    branches:
      legal:
        - {id: readDeed, service: a.two}
        - id: inner
          branches:
            left: [{id: sign, pause: true, timeout: 48h, onTimeout: fail}]
            right: [{id: stamp, service: a.three}]
      fire: [{id: inspect, title: Look for exits, service: a.four}]
  - {id: check1, service: a.five, parallel: true}
  - {id: check2, service: a.six, parallel: true}
  - {id: last, service: a.seven}
"""
BLOCKS = ("review", "inner")
STEPS = ("end", "readDeed", "sign", "stamp", "inspect", "check1", "check2", "last")


CONTROL = """\
id: control
steps:
  - id: eachDoc
    title: Every document
    forEach: payload.documents
    as: doc
    maxConcurrency: 5
    steps: [{id: sign, pause: true}]
  - id: decide
    switch:
      - when: payload.small
        steps: [{id: pauseABit, wait: 24h}, {id: until9, wait: {until: payload.opening}}]
      - when: payload.exempt
        steps: [{id: inspection, workflow: site-inspection, onError: continue}]
      - otherwise: true
        steps: [{id: tell, service: a.tell}, {id: stop, end: rejected}]
  - id: tries
    repeat: {until: steps.look.result.ok, max: 5}
    steps:
      - {id: look, service: a.look}
      - id: maybe
        switch: [{when: payload.fast, steps: [{id: quick, service: a.quick}]}]
  - {id: halt, fail: too late, when: payload.late}
"""


@pytest.fixture(scope="module")
def control() -> Definition:
    return load(CONTROL)


@pytest.fixture(scope="module")
def nested() -> Definition:
    return load(NESTED)


@pytest.fixture(scope="module")
def drawn(nested: Definition) -> ET.Element:
    return ET.fromstring(graph_svg.svg(nested))


def followers(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for source, target in re.findall(r'^\s*(\w+) -->(?:\|"[^"]*"\|)? (\w+)$', text, re.MULTILINE):
        found.setdefault(source, set()).add(target)
    return found


def reached(text: str) -> set[str]:
    after, found, ahead = followers(text), set[str](), ["begin"]
    while ahead:
        ahead += after.get(here := ahead.pop(), set()) - found
        found.add(here)
    return found


def id_of(text: str, step: str) -> str:
    found = re.search(rf'^\s*(\w+)[(\[{{]+"{step}[<":]', text, re.MULTILINE)
    assert found, step
    return found[1]


# Mermaid


def test_mermaid_has_every_step_with_what_it_calls(nested: Definition) -> None:
    text = graph_mermaid.mermaid(nested)
    assert text.startswith("flowchart TD\n")
    for step in STEPS:
        assert id_of(text, step)
    assert "end<br/>a.one<br/>undo: a.undo" in text


def test_mermaid_leads_from_start_to_completion_through_every_branch(nested: Definition) -> None:
    text = graph_mermaid.mermaid(nested)
    assert {id_of(text, step) for step in STEPS} | {"finish"} <= reached(text)


def test_mermaid_nests_branches_and_closes_every_subgraph(nested: Definition) -> None:
    lines = [line.strip() for line in graph_mermaid.mermaid(nested).split("\n")]
    depths, depth = [], 0
    for line in lines:
        depth += line.startswith("subgraph ")
        depth -= line == "end"
        depths.append(depth)
    assert max(depths) == 4  # review, legal, inner, left
    assert depths[-1] == 0


def test_a_step_may_be_called_end_in_mermaid(nested: Definition) -> None:
    assert not re.search(r"(?:^\s*|--> )end\b(?!$)", graph_mermaid.mermaid(nested), re.MULTILINE)


@pytest.mark.parametrize("character", list('"#&<>;`\\'))
def test_mermaid_labels_escape_what_has_a_meaning(character: str) -> None:
    assert graph_mermaid.escaped(f"a{character}b") == f"a#{ord(character)};b"


def test_mermaid_labels_are_one_line_without_control_characters() -> None:
    assert graph_mermaid.escaped("a\n  b\x00\x1bc") == "a bc"


def test_mermaid_labels_the_ways_of_a_switch(control: Definition) -> None:
    text = graph_mermaid.mermaid(control)
    decide, maybe = id_of(text, "decide"), id_of(text, "maybe")
    assert re.findall(rf'^\s*{decide} -->\|"(.*)"\|', text, re.MULTILINE) == [
        "payload.small",
        "payload.exempt",
        "otherwise",
    ]
    assert f'{maybe} -->|"else"| join' in text


def test_mermaid_leads_on_from_everything_but_an_end(control: Definition) -> None:
    text = graph_mermaid.mermaid(control)
    after = followers(text)
    assert {id_of(text, step.id) for step in walk(control.steps) if not sequences(step)} | {"finish"} <= reached(text)
    assert id_of(text, "stop") not in after
    assert id_of(text, "halt") in after


def test_mermaid_leads_a_repeat_back_and_a_for_each_on(control: Definition) -> None:
    text = graph_mermaid.mermaid(control)
    assert re.search(r'^\s*next(\d+) -->\|"again"\| loop\1$', text, re.MULTILINE)
    assert text.count('"again"') == 1
    assert 'subgraph b1["eachDoc: Every document<br/>for each payload.documents as doc<br/>5 at a time"]' in text


def test_mermaid_gives_each_kind_its_shape(control: Definition) -> None:
    text = graph_mermaid.mermaid(control)
    for shape in ('{{"pauseABit', '[["inspection', '((("stop', '((("halt', '{"decide', '(["sign'):
        assert shape in text


# Words


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(172800, "2d"), (3600, "1h"), (90, "90s"), (0.5, "500ms"), (1.5, "1.5s"), (86399, "86399s")],
)
def test_durations_are_written_as_people_write_them(seconds: float, written: str) -> None:
    assert graph.duration(seconds) == written


def test_a_long_condition_is_shortened() -> None:
    assert len(graph.shortened("x" * 500)) == graph.LONGEST


def test_a_step_tells_when_it_runs_and_what_it_waits_for(nested: Definition) -> None:
    told = graph_svg.described(nested, {"end": Tally(state="SUCCEEDED")})
    assert "end (a.one, undo: a.undo, done)" in told
    assert "review (when payload.fee > 0, side by side: legal, fire)" in told
    assert "sign (waits for a decision, 2d, then fail)" in told
    assert "check1+check2" not in told


def test_control_steps_say_what_they_decide(control: Definition) -> None:
    told = graph_svg.described(control, {})
    for words in (
        "eachDoc: Every document (for each payload.documents as doc, 5 at a time)",
        "tries (until steps.look.result.ok (at most 5))",
        "decide (goes one way: payload.small, payload.exempt, otherwise)",
        "maybe (goes one way: payload.fast, else)",
        "pauseABit (waits 1d)",
        "until9 (waits until payload.opening)",
        "inspection (workflow site-inspection, goes on when it fails)",
        "stop (completes: rejected)",
        "halt (when payload.late, fails: too late)",
    ):
        assert words in told


def test_what_ends_the_instance_whichever_way_it_goes_lets_nothing_follow(control: Definition) -> None:
    steps = {step.id: step for step in walk(control.steps)}
    assert not graph.goes_on(steps["stop"])
    assert graph.goes_on(steps["halt"])  # its condition may be false
    assert not graph.goes_on(SwitchStep(id="s", cases=(Case(steps=(steps["stop"],)),)))
    assert graph.goes_on(SwitchStep(id="s", cases=(Case(steps=(steps["stop"],), when=Expression(source="true")),)))
    assert graph.goes_on(ForEachStep(id="f", items=Expression(source="[]"), steps=(steps["stop"],)))


# SVG


def test_the_svg_is_a_named_and_described_image(drawn: ET.Element) -> None:
    assert drawn.get("role") == "img"
    labels = (drawn.get("aria-labelledby") or "").split()
    assert [element.get("id") for element in (drawn[0], drawn[1])] == labels
    assert drawn[0].text == 'nested: A "quoted" <b>title</b> & more'


def test_the_svg_draws_each_step_once(drawn: ET.Element) -> None:
    drawn_steps = [found for group in drawn.iter(f"{SVG}g") if (found := group.get("data-step"))]
    assert sorted(drawn_steps) == sorted((*STEPS, *BLOCKS))


def boxes(drawn: ET.Element) -> dict[str, tuple[float, float, float, float]]:
    """Step → left, top, width and height."""
    found = {}
    for group in drawn.iter(f"{SVG}g"):
        x, y = (float(number) for number in re.findall(r"[\d.]+", group.get("transform", "")))
        found[group.get("data-step", "")] = (x, y, float(group[0].get("width", "")), float(group[0].get("height", "")))
    return found


def overlaps(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(one[at] < other[at] + other[at + 2] and other[at] < one[at] + one[at + 2] for at in (0, 1))


@pytest.mark.parametrize("states", [None, {}, {"sign[0]": "WAITING", "end": "FAILED"}])
@pytest.mark.parametrize("text", [NESTED, CONTROL])
def test_no_two_steps_of_the_svg_overlap_and_all_lie_inside(text: str, states: dict[str, str] | None) -> None:
    definition = load(text)
    drawn = ET.fromstring(graph_svg.svg(definition, states))
    width, height = float(drawn.get("width", "")), float(drawn.get("height", ""))
    found = boxes(drawn)
    for name, (x, y, w, h) in found.items():
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height, name  # noqa: PT018
    for step in walk(definition.steps):
        inside = {inner.id for inner in walk((step,))}
        for other in found.keys() - inside:
            if step.id in found and step.id not in {inner.id for inner in walk((step_of(definition, other),))}:
                assert not overlaps(found[step.id], found[other]), (step.id, other)


def step_of(definition: Definition, name: str) -> Step:
    return next(step for step in walk(definition.steps) if step.id == name)


def test_a_sequence_goes_down_and_branches_stand_side_by_side(drawn: ET.Element) -> None:
    at = boxes(drawn)
    assert at["end"][1] < at["readDeed"][1] < at["sign"][1] < at["check1"][1] < at["last"][1]
    assert at["check1"][1] == at["check2"][1]
    assert at["readDeed"][1] == at["inspect"][1]


def test_the_svg_refers_to_nothing_outside_itself(nested: Definition) -> None:
    text = graph_svg.svg(nested).replace("http://www.w3.org/2000/svg", "")
    assert "http" not in text
    assert "href" not in text
    assert "url(" not in text
    assert "<script" not in text


def texts_of(
    definition: Definition, step: str, states: dict[str, str], **asked: Any
) -> tuple[list[str], list[str | None]]:
    """A step's classes and what is written in it."""
    drawn = ET.fromstring(graph_svg.svg(definition, states, **asked))
    (group,) = (group for group in drawn.iter() if group.get("data-step") == step)
    return (group.get("class") or "").split(), [text.text for text in group.iter(f"{SVG}text")]


@pytest.mark.parametrize("state", states.STEP_STATES)
def test_a_state_is_said_in_words_with_a_mark_and_as_a_class(nested: Definition, state: str) -> None:
    classes, texts = texts_of(nested, "end", {"end": state})
    assert graph_style.TONES[state] in classes
    assert texts[-1] == graph_layout.said(Tally(state=state))
    assert graph_style.MARKS[state] in graph_svg.svg(nested, {"end": state})


def test_a_step_without_a_row_is_said_not_to_be_reached(nested: Definition) -> None:
    assert texts_of(nested, "last", {"end": "RUNNING"})[1][-1] == "Not reached"
    assert "Not reached" not in graph_svg.svg(nested)


def test_a_loop_and_its_steps_say_how_many_are_done(control: Definition) -> None:
    rows = {"eachDoc": "RUNNING", "sign[0]": "SUCCEEDED", "sign[1]": "FAILED"}
    assert texts_of(control, "sign", rows, items={"eachDoc": 7})[1][-1] == "Failed: 1 of 7 done, 1 failed"
    assert texts_of(control, "eachDoc", rows, items={"eachDoc": 7})[1][-1] == "Failed: 1 of 7 done, 1 failed"


def test_every_kind_has_a_shape_or_an_icon_of_its_own(control: Definition) -> None:
    kinds = {graph.kind(step) for step in walk(control.steps)} - {"service"}
    assert kinds == graph_style.ICONS.keys() - {"branches"}
    drawn = graph_svg.svg(control)
    for kind in kinds:
        assert graph_style.ICONS[kind] in drawn


def test_steps_are_links_to_their_rows_where_a_page_asks_for_it(nested: Definition) -> None:
    drawn = ET.fromstring(graph_svg.svg(nested, link="#step-"))
    links = {link.get("data-step"): link for link in drawn.iter(f"{SVG}a")}
    assert links.keys() == {*STEPS, *BLOCKS}
    assert all(link.get("href") == f"#step-{step}" and link.get("aria-label") for step, link in links.items())
    assert drawn.get("role") == "group"  # in an image nobody could reach them
    assert not [inner for link in links.values() for inner in link.iter(f"{SVG}a") if inner is not link]


def test_a_step_that_is_not_reached_has_no_row_to_lead_to(nested: Definition) -> None:
    drawn = ET.fromstring(graph_svg.svg(nested, {"end": "RUNNING"}, link="#step-"))
    assert [link.get("data-step") for link in drawn.iter(f"{SVG}a")] == ["end"]


def test_a_large_definition_stays_small_in_bytes() -> None:
    steps = "\n".join(
        f"  - id: block{n}\n    branches:\n"
        f"      one: [{{id: a{n}, title: The first of two, service: a.one, compensate: a.undo}}]\n"
        f"      two: [{{id: b{n}, title: The second of two, pause: true, timeout: 48h}}]\n"
        f"  - {{id: c{n}, title: What comes after both, service: a.three, when: payload.fee > {n}}}"
        for n in range(10)
    )
    definition = load(f"id: large\nsteps:\n{steps}")
    rows = {step.id: "SUCCEEDED" for step in walk(definition.steps)}
    assert len(rows) == 40
    assert len(graph_svg.svg(definition, rows, link="#step-", style=False)) < 32_000


def test_a_long_path_is_broken_behind_a_dot() -> None:
    source = "steps.aRatherLongName.result.another.one == 1 && true"
    lines = [line.text for line in graph_layout._wrapped(source, "label")]
    assert lines == ["steps.aRatherLongName.", "result.another.one == 1 &&", "true"]


def test_a_page_may_keep_the_style_sheet_and_have_ids_of_its_own(nested: Definition) -> None:
    text = graph_svg.svg(nested, prefix="second", style=False)
    assert "<style" not in text
    assert 'id="second-title"' in text


def test_text_that_xml_does_not_know_is_left_out() -> None:
    definition = load('{"id": "odd", "title": "a\\u0001b", "steps": [{"id": "one", "service": "a.b"}]}')
    assert ET.fromstring(graph_svg.svg(definition))[0].text == "odd: a b"
