"""Definition versions: immutable, one for each new text, and each instance keeps the one that it started with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import bootstrap, engine, queries
from orchestrator.errors import BadRequest, Invalid, NotFound, TooLarge
from tests import flights
from tests.services import Airport, composed

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

FIRST = """
id: permit
title: First
steps:
  - {id: a, service: keyed.a}
  - {id: wait, pause: true}
  - {id: old, service: keyed.old, compensate: keyed.unold}
  - {id: boom, service: keyed.boom}
"""
SECOND = """
id: permit
title: Second
steps:
  - {id: a, service: far.other}
  - {id: fresh, service: keyed.fresh}
"""


def put(airport: Airport, text: str, tenant: str = flights.TENANT) -> engine.Saved:
    return engine.put_definition(airport.system, tenant=tenant, workflow_id="permit", text=text)


def test_a_new_text_is_a_new_version_and_the_same_text_is_not(tower: Airport) -> None:
    assert (put(tower, FIRST).version, put(tower, FIRST).created) == (1, False)
    assert put(tower, SECOND) == engine.Saved(workflow_id="permit", version=2, created=True)
    assert put(tower, FIRST).version == 3, "going back is a new version: none is ever changed"
    found = queries.get_definition(tower.system, tenant=flights.TENANT, workflow_id="permit")
    assert (found["version"], found["versions"], found["title"]) == (3, [1, 2, 3], "First")
    second = queries.get_definition(tower.system, tenant=flights.TENANT, workflow_id="permit", version=2)
    assert (second["text"], second["title"]) == (SECOND, "Second")
    with pytest.raises(NotFound):
        queries.get_definition(tower.system, tenant=flights.TENANT, workflow_id="permit", version=4)


def test_those_who_save_at_once_get_versions_one_after_the_other(tower: Airport) -> None:
    texts = [FIRST.replace("First", f"Title {n % 6}") for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        saved = list(pool.map(lambda text: put(tower, text), texts))
    versions = queries.get_definition(tower.system, tenant=flights.TENANT, workflow_id="permit")["versions"]
    assert versions == list(range(1, len(versions) + 1))
    assert sum(one.created for one in saved) == len(versions)


def test_an_instance_keeps_the_version_that_it_started_with(tower: Airport) -> None:
    put(tower, FIRST)
    before = tower.start("permit")
    tower.run(before, "a")
    put(tower, SECOND)
    after = tower.start("permit")
    with composed(tower.system.settings) as restarted:  # nothing is remembered but what the database has
        again = replace(tower, system=restarted)
        again.decide(before, "wait")
        again.run(before, "old")
        again.run(after, "a")
        again.run(after, "fresh")
    assert (tower.status(before)["version"], tower.status(after)["version"]) == (1, 2)
    assert tower.service.done(before) == ["a:g1:do", "old:g1:do", "boom:g1:do"]
    assert tower.service.done(after) == ["a:g1:do", "fresh:g1:do"]


def test_a_text_with_errors_changes_nothing_and_is_answered_with_all_of_them(tower: Airport) -> None:
    put(tower, FIRST)
    with pytest.raises(Invalid) as raised:
        put(tower, "id: permit\nsteps:\n  - {id: a, servce: keyed.a}\n  - {id: a, service: nowhere.a}\n")
    assert {problem.line for problem in raised.value.problems} == {3, 4}
    assert queries.get_definition(tower.system, tenant=flights.TENANT, workflow_id="permit")["version"] == 1
    assert tower.start("permit")


def test_a_text_of_another_id_or_one_too_large_is_refused(tower: Airport) -> None:
    with pytest.raises(BadRequest):
        put(tower, FIRST.replace("id: permit", "id: other"))
    with pytest.raises(TooLarge):
        put(tower, FIRST + "# " + "x" * tower.system.settings.max_definition)
    with pytest.raises(NotFound):
        queries.get_definition(tower.system, tenant=flights.TENANT, workflow_id="permit")


def test_definitions_are_each_tenants_own(tower: Airport) -> None:
    put(tower, FIRST)
    put(tower, SECOND, "elsewhere")
    mine = queries.get_definition(tower.system, tenant=flights.TENANT, workflow_id="permit")
    theirs = queries.get_definition(tower.system, tenant="elsewhere", workflow_id="permit")
    assert (mine["title"], theirs["title"]) == ("First", "Second")
    assert (mine["version"], theirs["version"]) == (1, 1)
    assert queries.list_definitions(tower.system, tenant="nobody") == []


def test_a_folder_is_loaded_by_inner_ids_and_one_bad_file_stops_no_other(tower: Airport, tmp_path: Path) -> None:
    (tmp_path / "some-name.yaml").write_text(FIRST)
    (tmp_path / "other.json").write_text('{"id": "as-json", "steps": [{"id": "a", "service": "keyed.a"}]}')
    (tmp_path / "bad.yaml").write_text("id: broken\nsteps:\n  - id: a     service: keyed.a\n")
    (tmp_path / "worse.yaml").write_text("id: worse\nsteps: [{id: a, service: keyed.a, tmeout: 5s}]\n")
    (tmp_path / "notes.txt").write_text("no definition")
    loading = replace(tower.system, settings=replace(tower.system.settings, workflows_dir=str(tmp_path)))
    refused = bootstrap.load_workflows(loading)
    assert {Path(name).name for name in refused} == {"bad.yaml", "worse.yaml"}
    listed = {one["id"]: one for one in queries.list_definitions(tower.system, tenant=flights.TENANT)}
    assert {name for name, one in listed.items() if one["version"]} == {"permit", "as-json"}
    assert {name for name, one in listed.items() if one["errors"]} == {"bad", "worse"}
    with pytest.raises(Invalid, match="tmeout"):
        tower.start("worse")
    assert tower.start("permit", {})
    assert bootstrap.load_workflows(loading).keys() == refused.keys()
    assert queries.get_definition(tower.system, tenant=flights.TENANT, workflow_id="permit")["versions"] == [1]

    (tmp_path / "worse.yaml").write_text("id: worse\nsteps: [{id: a, service: keyed.a, timeout: 5s}]\n")
    bootstrap.load_workflows(loading)
    assert tower.start("worse", {})


def test_a_stored_version_still_runs_after_its_lane_was_taken_out_of_the_services_file(
    tower: Airport, tmp_path: Path
) -> None:
    """What is left of it: the step cannot be sent, and is tried again until it is used up."""
    put(
        tower,
        "id: permit\nsteps:\n  - {id: a, service: keyed.a, compensate: keyed.ua}\n  - {id: b, service: far.b, retry: {max: 0}}\n",
    )
    instance = tower.start("permit")
    services = tmp_path / "fewer.yaml"
    kept = Path(tower.system.settings.services_file).read_text().splitlines()
    services.write_text("\n".join(line for line in kept if not line.strip().startswith("far:")))
    with composed(replace(tower.system.settings, services_file=str(services))) as poorer:
        later = replace(tower, system=poorer)
        later.run(instance, "a")
        later.run(instance, "b")
        later.run(instance, "a", "undo")
    shown = tower.status(instance)
    assert shown["status"] == "COMPENSATED"
    b = tower.step(instance, "b")
    assert b is not None
    assert "not in the services file" in b["error"]
