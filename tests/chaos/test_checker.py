"""The checker has nothing to say about healthy flights, and is seen to fail where something is wrong."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import flights, servers
from tests.chaos import checker, recorded, shapes
from tests.chaos.checker import __main__ as program
from tests.chaos.forged import FORGERIES, Forgery, Line, added, forge, numbered

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

HERE = Path(checker.__file__).parent


@dataclass(frozen=True, kw_only=True)
class Flown:
    """A database of healthy flights that nobody is connected to, the services' ledger of them, and their traces."""

    server: str
    database: str
    ledger: Path
    traces: dict[str, str]


@pytest.fixture(scope="module")
def flown(
    postgres_server: str,
    database_template: str,
    broker_places: servers.BrokerPlaces,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Flown]:
    folder = tmp_path_factory.mktemp("flown")
    with servers.database(postgres_server, template=database_template) as url:
        with (
            broker_places.one() as broker_url,
            recorded.airport(url, broker_url, folder) as airport,
            flights.worker(airport.system),
        ):
            traces = shapes.fly_all(airport)
        servers.leave(postgres_server, servers.database_name(url))
        yield Flown(server=postgres_server, database=url, ledger=folder / "ledger.jsonl", traces=traces)


def test_the_checker_has_nothing_to_say_about_healthy_flights_of_every_shape(flown: Flown) -> None:
    report = checker.check(flown.database, flown.ledger)
    assert [str(one) for one in report.violations] == []
    assert report.figures["instances"] > len(flown.traces)
    assert report.figures["notTerminal"] == {"WAITING": 1, "STUCK uncertain": 1, "SUSPENDED": 1}
    assert report.figures["keysCalledAgain"] > 0


def test_the_checker_imports_nothing_of_what_it_checks() -> None:
    for path in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] not in ("orchestrator", "tasks"), f"{path.name} imports {name}"
                assert not name.startswith("tests") or name.startswith("tests.chaos.checker"), path.name


@pytest.mark.parametrize("what", FORGERIES)
def test_forged_evidence_is_reported_by_its_kind(what: str, flown: Flown, tmp_path: Path) -> None:
    forgery, ledger = FORGERIES[what], tmp_path / "ledger.jsonl"
    with servers.database(flown.server, template=servers.database_name(flown.database)) as copy:
        forge(forgery, flown.traces, copy, flown.ledger, ledger)
        report = checker.check(copy, ledger)
    assert forgery.kind in report.kinds, [str(one) for one in report.violations]


def test_what_nobody_could_know_of_and_was_undone_all_the_same_is_no_violation(flown: Flown, tmp_path: Path) -> None:
    def late(lines: list[Line], trace: str) -> list[Line]:
        *others, landed = added("b", "effect", like="a", operation="broken")(lines, trace)
        at = next(at for at, one in enumerate(others) if one["key"] == f"{trace}:b:g1:undo" and one["what"] == "call")
        return numbered([*others[: at + 1], landed, *others[at + 1 :]])

    forgery, ledger = Forgery(kind="-", shape="uncertain", edit=late), tmp_path / "ledger.jsonl"
    with servers.database(flown.server, template=servers.database_name(flown.database)) as copy:
        forge(forgery, flown.traces, copy, flown.ledger, ledger)
        report = checker.check(copy, ledger)
    assert [str(one) for one in report.violations] == []


def test_every_kind_of_violation_is_seen_by_a_test() -> None:
    assert {forgery.kind for forgery in FORGERIES.values()} == set(checker.KINDS)


def test_as_a_program_it_says_what_is_violated_and_ends_with_1(
    flown: Flown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--database", flown.database, "--json", str(tmp_path / "report.json"), "--ledger"]
    assert program.main([*given, str(flown.ledger)]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["violations"] == []
    torn = tmp_path / "ledger.jsonl"
    torn.write_text("".join(flown.ledger.read_text().splitlines(keepends=True)[:-1]) + "no line\n")
    assert program.main([*given, str(torn)]) == 1
    assert "VIOLATION ledger-broken -: line" in capsys.readouterr().out
    assert program.main([*given, str(tmp_path / "nowhere")]) == 2
