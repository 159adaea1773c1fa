"""All settings, read once from the environment into one frozen object. Durations are seconds."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.durations import seconds
from orchestrator.errors import SettingsError

PREFIX = "ORCHESTRATOR_"
CAN_BE_OFF, OFF = ("canary", "deaf_after"), re.compile(r"0(\.0+)?[smh]?")
BROKER = re.compile("(redis|rediss|amqp|amqps)://[^/]|redis[+]socket:///|sentinel://|memory://")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One field a setting; the environment's name is `ORCHESTRATOR_` and the field in capitals."""

    database_url: str | None = None  # postgresql://…; none: the embedded Postgres
    broker_url: str | None = None  # redis://… or amqp://…; none: the embedded Valkey
    workflows_dir: str = "workflows"  # definitions loaded at start
    services_file: str = "services.yaml"  # where the lanes go
    data_dir: str = ".data"  # of the embedded servers, and of the sample lanes
    lease: float = 30.0  # an attempt whose process is silent for so long is lost
    sweep_every: float = 2.0  # every worker's timer
    window: int = 1000  # messages in flight for a queue and a tenant
    republish_after: float = 10.0  # grace before an unclaimed message is sent again
    losses: int = 3  # leases lost in a row before a step is quarantined
    auth: Literal["jwt", "local"] = "jwt"
    jwks: str | None = None  # the keys that sign bearer tokens: a file, or an https URL
    jwt_secret: str | None = None  # instead of keys: HS256 with a secret of 32 bytes or more
    jwt_audience: str = "orchestrator"  # the `aud` of tokens that are for this installation
    jwt_issuer: str | None = None  # the `iss` of tokens; needed with jwks
    jwt_tenant_claim: str = "tenant"  # the claim that names the tenant
    tenant: str = "local"  # whose definitions workflows_dir holds, and the `local` user's tenant
    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str | None = None  # for absolute URLs; none: http://host:port
    secret: str | None = None  # signs callback tokens; none: kept in the database
    log_format: Literal["console", "json"] = "console"
    max_payload: int = 1_000_000  # bytes
    max_definition: int = 256_000  # bytes
    webhook_hosts: str | None = None  # where ends may be told, separated by commas; none: nowhere
    retention: float | None = None  # what has ended so long ago is deleted; none: kept for ever
    worker_concurrency: int = 8  # threads a worker process
    deaf_after: float = 10.0  # a worker that hears nothing of what it sends itself consumes anew; 0: it sends nothing
    canary: float = 60.0  # between two instances of our own that prove that all goes on; 0: none
    stop_within: float = 10.0  # from being told to stop to the end of the process

    @property
    def base_url(self) -> str:
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises SettingsError naming the variable and what it may hold."""
    given: dict[str, object] = {}
    for name, kind in Settings.__annotations__.items():
        text = environment.get(PREFIX + name.upper())
        if text:
            given[name] = _parse(name, kind, text)
    return Settings(**given)  # type: ignore[arg-type]


def _parse(name: str, kind: str, text: str) -> object:
    variable = PREFIX + name.upper()
    try:
        if name in CAN_BE_OFF and OFF.fullmatch(text):
            return 0.0
        if kind.startswith("float"):
            return seconds(text)
        if kind == "int":
            return int(text)
    except ValueError as error:
        raise SettingsError(f"{variable}={text!r}: {error}") from error
    if name == "broker_url" and not BROKER.match(text):
        raise SettingsError(
            f"{variable} is not a broker's address, such as redis://host:6379/0 or amqp://user:password@host//"
        )
    if kind.startswith("Literal[") and f"'{text}'" not in kind.replace('"', "'"):
        raise SettingsError(f"{variable}={text!r} is not one of {kind[8:-1]}")
    return text
