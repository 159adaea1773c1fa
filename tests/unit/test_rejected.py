"""Texts that are no definitions. Each says in its first line where it is wrong and how it is told.

`# line N, shape: part of the message`: of such a fault the JSON Schema knows, too, so that an editor shows it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from orchestrator.errors import Invalid
from orchestrator.lane import Lane
from orchestrator.language.schema import json_schema
from orchestrator.loader import load, read_document

TEXTS = sorted((Path(__file__).parent / "rejected").glob("*.yaml"))
LANES = {name: Lane(name=name, transport="local") for name in ("fileSvc", "achSvc")}
EDITORS = Draft202012Validator(json_schema())
FIRST_LINE = re.compile(r"# line (\d+)(, shape)?: (.+)")


def expected(path: Path) -> tuple[int, bool, str]:
    """The line, whether its fault is one of shape, and what is said."""
    match = FIRST_LINE.fullmatch(path.read_text(encoding="utf-8").splitlines()[0])
    assert match, f"{path.name} does not say what is wrong with it"
    return int(match[1]), bool(match[2]), match[3]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_a_rejected_text_is_told_its_one_fault_at_its_line(path: Path) -> None:
    line, _, message = expected(path)
    with pytest.raises(Invalid) as caught:
        load(path.read_text(encoding="utf-8"), file=path.name, lanes=LANES)
    (only,) = caught.value.problems
    assert message in only.message
    assert (only.file, only.line) == (path.name, line)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_an_editor_sees_the_faults_of_shape_and_no_others(path: Path) -> None:
    _, is_shape, _ = expected(path)
    assert EDITORS.is_valid(read_document(path.read_text(encoding="utf-8")).data) is not is_shape
