"""services.yaml: what is read from it, and every way in which it can be wrong."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from orchestrator.errors import Invalid
from orchestrator.lane import Breaker, Call, Lane, Rate
from orchestrator.lanes import registry
from orchestrator.lanes.caller import Caller

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path, for lanes of the test's own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "services.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> list[str]:
    """Each problem as `line:column message (hint)`."""
    path = written(folder, text)
    with pytest.raises(Invalid) as caught:
        registry.load(path)
    assert all(problem.file == str(path) for problem in caught.value.problems)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def limits(folder: Path, lane: str) -> tuple[int | None, Rate | None, Breaker | None]:
    found = registry.load(written(folder, f"services: {{x: {lane}}}"))["x"]
    return found.concurrency, found.rate, found.breaker


HTTP = "transport: http, url: 'http://x', idempotency: key"


@pytest.mark.parametrize(
    ("lane", "expected"),
    [
        (f"{{{HTTP}}}", (None, None, Breaker(failures=10, pause=30.0))),
        (f"{{{HTTP}, breaker: none}}", (None, None, None)),
        (f"{{{HTTP}, breaker: {{pause: 2m}}}}", (None, None, Breaker(failures=10, pause=120.0))),
        (f"{{{HTTP}, concurrency: 50, rate: 100/s}}", (50, Rate(count=100, period=1.0), Breaker())),
        ("{transport: local, module: tasks.file_svc}", (None, None, None)),
        ("{transport: local, module: tasks.file_svc, breaker: {failures: 3}}", (None, None, Breaker(failures=3))),
        ("{transport: event, topic: t, rate: 30/m}", (None, Rate(count=30, period=60.0), None)),
    ],
)
def test_limits_are_read_and_http_lanes_have_a_breaker_unless_it_is_off(
    tmp_path: Path, lane: str, expected: tuple[object, ...]
) -> None:
    assert limits(tmp_path, lane) == expected


def test_every_key_of_an_http_lane_is_read(tmp_path: Path) -> None:
    lanes = registry.load(
        written(
            tmp_path,
            """
        services:
          achSvc:
            transport: http
            url: "https://ach.internal:8443/v1/"
            idempotency: key
            keyTtl: 24h
            timeout: 2500ms
            operation: charge
            backup: achSvc.review
            queue: payments
    """,
        )
    )
    assert lanes == {
        "achSvc": Lane(
            name="achSvc",
            transport="http",
            idempotency="key",
            key_ttl=86_400.0,
            url="https://ach.internal:8443/v1",
            timeout=2.5,
            operation="charge",
            backup="achSvc.review",
            queue="payments",
            breaker=Breaker(),
        )
    }


def test_a_local_lane_defaults_to_key_and_its_module_is_imported(modules: Path) -> None:
    (modules / "lane_that_marks.py").write_text("import builtins\nMARK = 'imported'\ndef go(call): return 1\n")
    lanes = registry.load(written(modules, "services: {a: {transport: local, module: lane_that_marks}}"))
    assert lanes == {"a": Lane(name="a", transport="local", idempotency="key", module="lane_that_marks")}


def test_a_celery_lanes_queue_is_the_other_apps(tmp_path: Path) -> None:
    text = 'services: {reports: {transport: celery, queue: reports, task: "reports.{operation}", idempotency: none}}'
    assert registry.load(written(tmp_path, text))["reports"] == Lane(
        name="reports", transport="celery", idempotency="none", task="reports.{operation}", task_queue="reports",
        queue="legs",
    )  # fmt: skip


def test_an_event_lane_defaults_to_key(tmp_path: Path) -> None:
    text = 'services: {sendEmail: {transport: event, topic: "email.{operation}", queue: far}}'
    lane = Lane(name="sendEmail", transport="event", idempotency="key", topic="email.{operation}", queue="far")
    assert registry.load(written(tmp_path, text)) == {"sendEmail": lane}


def test_two_apps_may_not_share_a_queue(tmp_path: Path) -> None:
    text = """\
        services:
          achSvc: {transport: http, url: "http://ach", idempotency: key, queue: payments}
          reports: {transport: celery, queue: payments, task: r, idempotency: key}
    """
    assert problems(tmp_path, text) == [
        "3:39: `queue`: `payments` is a queue of our own workers (name the queue that the other app's workers consume)"
    ]


def test_json_is_read_as_well(tmp_path: Path) -> None:
    text = '{"services": {"a": {"transport": "http", "url": "http://a", "idempotency": "safe"}}}'
    assert registry.load(written(tmp_path, text))["a"].url == "http://a"


def test_the_lanes_cannot_be_changed(tmp_path: Path) -> None:
    lanes = registry.load(written(tmp_path, "services: {a: {transport: http, url: 'http://a', idempotency: safe}}"))
    with pytest.raises(TypeError):
        lanes["b"] = lanes["a"]  # type: ignore[index]


def test_the_repositorys_own_file_loads() -> None:
    lanes = registry.load(REPOSITORY / "services.yaml")
    assert {"fileSvc", "achSvc", "permitSvc", "validationSvc", "approvalSvc", "notificationSvc"} <= set(lanes)
    assert lanes["approvalSvc"].backup == "approvalSvc.backup"


def test_a_missing_file_names_itself_and_the_setting(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"none\.yaml.*ORCHESTRATOR_SERVICES_FILE"):
        registry.load(tmp_path / "none.yaml")


def test_an_http_lane_must_say_its_idempotency(tmp_path: Path) -> None:
    [problem] = problems(
        tmp_path,
        """\
        services:
          achSvc: {transport: http, url: "http://ach"}
    """,
    )
    assert problem.startswith("2:3: lane `achSvc` must say its `idempotency`: HTTP lanes must say which")


def test_all_problems_are_listed_with_their_places(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """\
        services:
          one: {transport: htp}
          two: {transport: http, idempotancy: key, url: "http://two"}
          three: {transport: http, idempotency: maybe, url: "ftp://three", timeout: 10}
    """,
    )
    assert found == [
        "2:20: unknown transport `htp` (did you mean `http`?)",
        (
            "3:3: lane `two` must say its `idempotency`: HTTP lanes must say which (key: it honours Idempotency-Key; "
            "query: it can be asked for a key; safe: it has no effect; none: it can do neither)"
        ),
        "3:26: unknown key `idempotancy` (did you mean `idempotency`?)",
        "4:41: `idempotency`: 'maybe' is not one of them; known: key, query, safe, none",
        "4:53: `url`: 'ftp://three' is not an address such as http://ach.internal/",
        "4:77: `timeout`: '10' is not a duration such as 500ms, 10s, 5m, 48h, 2d or PT48H",
    ]


@pytest.mark.parametrize(
    ("lane", "said"),
    [
        ("{transport: celery, queue: reports, idempotency: key}", "lane `a` needs a `task`"),
        ("{transport: celery, task: r, idempotency: key}", "lane `a` needs a `queue`"),
        ("{transport: celery, queue: reports, task: r}", "must say its `idempotency`: Celery lanes must say which"),
        ("{transport: celery, queue: q, task: r, idempotency: query}", "a celery lane cannot be asked for a key"),
        ("{transport: celery, queue: legs, task: r, idempotency: key}", "`legs` is a queue of our own workers"),
        ("{transport: celery, queue: landed, task: r, idempotency: key}", "`landed` is a queue of our own workers"),
        (
            "{transport: celery, queue: q, task: 'r.{op}', idempotency: key}",
            "'r.{op}' is not a name such as reports.{oper",
        ),
        ("{transport: celery, queue: q, task: r, topic: t, idempotency: key}", "unknown key `topic`"),
        ("{transport: event}", "lane `a` needs a `topic`"),
        ("{transport: event, topic: 'email.#'}", "'email.#' is not a name such as email.{operation}"),
        ("{transport: event, topic: 7}", "7 is not a name such as email.{operation}"),
        ("{transport: event, topic: t, idempotency: query}", "an event lane cannot be asked for a key"),
        ("{transport: event, topic: t, url: 'http://x'}", "unknown key `url`"),
        ("{module: tasks.file_svc}", "the lane needs a `transport`"),
        ("{transport: [local]}", "unknown transport"),
        ("{transport: local}", "needs a `module`"),
        ("{transport: local, module: tasks.file_svc, url: 'http://x'}", "unknown key `url`"),
        ("{transport: local, module: tasks.file_svc, concurrency: 0}", "`concurrency`: 0 is not a number of calls"),
        ("{transport: local, module: tasks.file_svc, concurrency: true}", "`concurrency`: True is not a number"),
        ("{transport: event, topic: t, concurrency: 5}", "a call is over as soon as it is sent: set a `rate`"),
        ("{transport: local, module: tasks.file_svc, rate: 100}", "`rate`: 100 is not a rate such as 100/s"),
        ("{transport: local, module: tasks.file_svc, rate: 5/d}", "`rate`: '5/d' is not a rate"),
        ("{transport: local, module: tasks.file_svc, breaker: always}", "is neither `none` nor a mapping"),
        ("{transport: local, module: tasks.file_svc, breaker: {pauses: 3s}}", "is neither `none` nor a mapping"),
        ("{transport: local, module: tasks.file_svc, breaker: {failures: none}}", "'none' is not `failures`: a number"),
        ("{transport: local, module: tasks.file_svc, breaker: {pause: soon}}", "'soon' is not a duration"),
        ("{transport: local, module: tasks.file_svc, idempotency: query}", "a local lane cannot be asked for a key"),
        ("{transport: local, module: tasks.file_svc, idempotency: safe, keyTtl: 1h}", "goes with `idempotency: key`"),
        ("{transport: local, module: .file_svc}", "is not the full name of a Python module"),
        ("{transport: local, module: tasks.nothing_here}", "cannot import tasks.nothing_here: ModuleNotFoundError"),
        ("{transport: local, module: tasks.file_svc, operation: uplaod}", "did you mean `upload`?"),
        ("{transport: local, module: tasks.file_svc, backup: a}", "does not name a lane and its operation"),
        ("{transport: local, module: tasks.file_svc, backup: b.upload}", "unknown lane `b`"),
        ("{transport: local, module: tasks.file_svc, backup: a.uplaod}", "did you mean `upload`?"),
        ("{transport: local, module: tasks.file_svc, queue: 'a b'}", "is not a queue name"),
        ("{transport: http, idempotency: key}", "needs a `url`"),
        ("{transport: http, idempotency: key, url: 'http://'}", "is not an address"),
        ("{transport: http, idempotency: key, url: 'http://a:99999'}", "out of range"),
        ("{transport: http, idempotency: key, url: 'http://[::1'}", "`url`"),
        ("{transport: http, idempotency: key, url: 'http://me:secret@a/'}", "would end up in logs"),
        ("{transport: http, idempotency: key, url: 'http://a/?q=1'}", "no ? or #"),
        ("{transport: http, idempotency: key, url: 'http://a/b c'}", "characters that a URL may not"),
        ("{transport: http, idempotency: key, url: 7}", "is not an address"),
        ("{transport: http, idempotency: [key], url: 'http://a'}", "is not one of them"),
        ("just text", "must be a mapping"),
    ],
)
def test_a_lane_that_is_wrong_says_how(tmp_path: Path, lane: str, said: str) -> None:
    [problem] = problems(tmp_path, f"services:\n  a: {lane}\n")
    assert problem.startswith("2:")
    assert said in problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lanes: {}", "must hold a mapping `services`"),
        ("services: []", "must hold a mapping `services`"),
        ("services: {}\nsevices: {}", "unknown key `sevices` (did you mean `services`?)"),
        ("services: {a.b: {transport: local, module: tasks.file_svc}}", "`a.b` is not a lane name"),
        ("services: {a: {transport: local}, a: {}}", "duplicate key"),
    ],
)
def test_a_file_that_is_wrong_says_how(tmp_path: Path, text: str, said: str) -> None:
    assert said in problems(tmp_path, text)[0]


def test_a_module_that_fails_while_it_is_imported_is_a_problem_of_its_lane(modules: Path) -> None:
    (modules / "lane_that_breaks.py").write_text("raise RuntimeError('no licence')\n")
    [problem] = problems(modules, "services: {a: {transport: local, module: lane_that_breaks}}")
    assert "cannot import lane_that_breaks: RuntimeError: no licence" in problem


def test_asking_a_local_lane_settles_nothing() -> None:
    lane = Lane(name="fileSvc", transport="local", module="tasks.file_svc")
    asked = Caller().ask(
        lane,
        Call(
            tenant="t",
            trace="0" * 32,
            step="s",
            lane="fileSvc",
            operation="upload",
            key="k",
            attempt=1,
            payload={},
            input={},
            timeout=1,
        ),
    )
    assert (asked.outcome, asked.may_retry) == ("uncertain", False)
