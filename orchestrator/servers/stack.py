"""The whole stack of `orchestrator up`: which processes there are, in which order, and what they are told."""

from __future__ import annotations

import os
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path

from orchestrator.embedded import prepare_broker, prepare_postgres
from orchestrator.errors import ServerError
from orchestrator.servers.child import Child, Ready
from orchestrator.servers.data_directory import make
from orchestrator.servers.ports import free_port, reserve
from orchestrator.settings import PREFIX, Settings

LOOPBACKS = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The children in the order in which they are started."""

    children: Sequence[Child]
    url: str
    held: ExitStack  # data directories and the port, which are the stack's until this is closed


def compose(settings: Settings, *, workers: int, port: int | None, data_dir: Path) -> Stack:
    """Choose ports and prepare the servers that the settings do not name; nothing is started yet.

    A `port` that was asked for is used or refused (ServerError); none: the settings' own, or a free one when that
    is taken.
    """
    make(data_dir)
    with ExitStack() as held:
        settings = replace(settings, port=hold_port(settings, port, held), data_dir=str(data_dir.resolve()))
        prepared = []
        if settings.database_url is None:
            prepared.append(database := prepare_postgres(data_dir))
            held.callback(database.claim.release)
            settings = replace(settings, database_url=database.url)
        if settings.broker_url is None:
            prepared.append(broker := prepare_broker(data_dir))
            held.callback(broker.claim.release)
            settings = replace(settings, broker_url=broker.url)
        children = [*(server.child for server in prepared), *ours(with_local_auth(settings), workers)]
        return Stack(children=children, url=settings.base_url, held=held.pop_all())


def ours(settings: Settings, workers: int) -> list[Child]:
    """The processes of the orchestrator itself; the schema is brought up to date before any of them looks at it."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **environment(settings)}
    program = command()
    web = f"http://{'127.0.0.1' if settings.host == '0.0.0.0' else settings.host}:{settings.port}"  # noqa: S104
    return [
        Child(name="upgrade", argv=(*program, "db", "upgrade"), env=env, restart=False),
        *(Child(name=f"worker-{n}", argv=(*program, "worker"), env=env) for n in range(1, workers + 1)),
        Child(name="beat", argv=(*program, "beat"), env=env),
        Child(name="web", argv=(*program, "web"), env=env, ready=answers(f"{web}/readyz")),
    ]


def command() -> tuple[str, ...]:
    """The `orchestrator` of the environment that this one runs in, whatever PATH says."""
    return (str(Path(sysconfig.get_path("scripts")) / "orchestrator"),)


def environment(settings: Settings) -> dict[str, str]:
    """What `settings.load` reads as these settings."""
    given = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {PREFIX + name.upper(): _text(value) for name, value in given.items() if value is not None}


def _text(value: object) -> str:
    return f"{value:f}s" if isinstance(value, float) else str(value)


def with_local_auth(settings: Settings) -> Settings:
    """On loopback everybody is the local user, unless the environment says how to authenticate."""
    if settings.host in LOOPBACKS and PREFIX + "AUTH" not in os.environ:
        return replace(settings, auth="local")
    return settings


def hold_port(settings: Settings, asked: int | None, held: ExitStack) -> int:
    wanted = settings.port if asked is None else asked
    for port in (wanted, *([] if asked else [free_port()])):
        if port and (token := reserve(port, settings.host)):
            held.enter_context(token)
            return port
    raise ServerError(f"port {wanted} of {settings.host} is taken: give another --port")


def answers(url: str) -> Ready:
    """Does a GET of it answer 200? Proxies of the environment are not asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask() -> bool:
        try:
            with opener.open(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False

    return ask
