"""Definitions as tests write and read them."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from orchestrator.definition import Definition
from orchestrator.errors import Invalid, Problem
from orchestrator.lane import Lane
from orchestrator.language.schema import json_schema
from orchestrator.loader import load, read_document

NAMES = ("fileSvc", "achSvc", "permitSvc", "validationSvc", "notificationSvc", "zoningPortal", "backupSvc")
LANES = {name: Lane(name=name, transport="local") for name in NAMES} | {
    "approvalSvc": Lane(name="approvalSvc", transport="local", operation="decide", backup="backupSvc.approve")
}

EDITORS = Draft202012Validator(json_schema())


def steps(*lines: str) -> str:
    """A definition whose steps are these, each a flow mapping on a line of its own: step n on line n + 2."""
    return "id: x\nsteps:\n" + "".join(f"  - {{{line}}}\n" for line in lines)


def read(text: str, **options: Any) -> Definition:
    definition = load(text, lanes=LANES, **options)
    assert EDITORS.is_valid(read_document(text).data), "what can be loaded is no error in an editor"
    return definition


def problems(text: str, **options: Any) -> tuple[Problem, ...]:
    with pytest.raises(Invalid) as caught:
        read(text, **options)
    return caught.value.problems


def problem(text: str, **options: Any) -> Problem:
    (only,) = problems(text, **options)
    return only


def found_in(text: str) -> tuple[Problem, ...]:
    try:
        load(text, lanes=LANES)
    except Invalid as error:
        return error.problems
    return ()
