from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from orchestrator import graph, graph_mermaid, graph_svg
from orchestrator.definition import Definition
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
STEPS = ("end", "readDeed", "sign", "stamp", "inspect", "check1", "check2", "last")


@pytest.fixture(scope="module")
def nested() -> Definition:
    return load(NESTED)


@pytest.fixture(scope="module")
def drawn(nested: Definition) -> ET.Element:
    return ET.fromstring(graph_svg.svg(nested))


def followers(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for source, target in re.findall(r"^\s*(\w+) --> (\w+)$", text, re.MULTILINE):
        found.setdefault(source, set()).add(target)
    return found


def id_of(text: str, step: str) -> str:
    found = re.search(rf'^\s*(\w+)\(?\[?\(?\["?{step}|^\s*(\w+)[(\[]+"{step}[<":]', text, re.MULTILINE)
    assert found, step
    return found[1] or found[2]


# Mermaid


def test_mermaid_has_every_step_with_what_it_calls(nested: Definition) -> None:
    text = graph_mermaid.mermaid(nested)
    assert text.startswith("flowchart TD\n")
    for step in STEPS:
        assert id_of(text, step)
    assert "end<br/>a.one<br/>undo: a.undo" in text


def test_mermaid_leads_from_start_to_completion_through_every_branch(nested: Definition) -> None:
    text = graph_mermaid.mermaid(nested)
    after = followers(text)
    reached: set[str] = set()
    ahead = ["begin"]
    while ahead:
        ahead += after.get(here := ahead.pop(), set()) - reached
        reached.add(here)
    assert {id_of(text, step) for step in STEPS} | {"finish"} <= reached


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
    told = graph_svg.described(nested, {"end": "SUCCEEDED"})
    assert "end (a.one, undo: a.undo, is SUCCEEDED)" in told
    assert "review (when payload.fee > 0, side by side: legal, fire)" in told
    assert "sign (waits for a decision, 2d, then fail)" in told
    assert "check1+check2" not in told


# SVG


def test_the_svg_is_a_named_and_described_image(drawn: ET.Element) -> None:
    assert drawn.get("role") == "img"
    labels = (drawn.get("aria-labelledby") or "").split()
    assert [element.get("id") for element in (drawn[0], drawn[1])] == labels
    assert drawn[0].text == 'nested: A "quoted" <b>title</b> & more'


def test_the_svg_draws_each_step_once(drawn: ET.Element) -> None:
    assert sorted(found for group in drawn.iter(f"{SVG}g") if (found := group.get("data-step"))) == sorted(STEPS)


def boxes(drawn: ET.Element) -> dict[str, tuple[float, float, float, float]]:
    return {
        group.get("data-step", ""): tuple(float(group[0].get(name, "")) for name in ("x", "y", "width", "height"))  # type: ignore[misc]
        for group in drawn.iter(f"{SVG}g")
    }


def test_no_two_steps_of_the_svg_overlap_and_all_lie_inside(drawn: ET.Element) -> None:
    width, height = float(drawn.get("width", "")), float(drawn.get("height", ""))
    found = list(boxes(drawn).items())
    for at, (name, (x, y, w, h)) in enumerate(found):
        assert x >= 0, name
        assert y >= 0, name
        assert x + w <= width, name
        assert y + h <= height, name
        for other, (x2, y2, w2, h2) in found[:at]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y, (name, other)


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


def test_states_are_said_in_words_and_as_a_class(nested: Definition) -> None:
    drawn = ET.fromstring(graph_svg.svg(nested, {"end": "FAILED"}))
    group = next(group for group in drawn.iter(f"{SVG}g") if group.get("data-step") == "end")
    assert "bad" in (group.get("class") or "").split()
    assert [text.text for text in group.iter(f"{SVG}text")][-1] == "FAILED"


def test_a_page_may_keep_the_style_sheet_and_have_ids_of_its_own(nested: Definition) -> None:
    text = graph_svg.svg(nested, prefix="second", style=False)
    assert "<style" not in text
    assert 'id="second-title"' in text


def test_text_that_xml_does_not_know_is_left_out() -> None:
    definition = load('{"id": "odd", "title": "a\\u0001b", "steps": [{"id": "one", "service": "a.b"}]}')
    assert ET.fromstring(graph_svg.svg(definition))[0].text == "odd: a b"
