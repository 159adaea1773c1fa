"""`orchestrator token`: a bearer token for trying things out, where the installation signs its own."""

from __future__ import annotations

import getpass
import time
from collections.abc import Sequence

import click

from orchestrator import settings
from orchestrator.durations import seconds
from orchestrator.errors import SettingsError


@click.command()
@click.option("--tenant", required=True, help="Whose rows it opens.")
@click.option(
    "--scope", "scopes", multiple=True, required=True, help="What it may do; repeat it, or separate by spaces."
)
@click.option("--subject", default=getpass.getuser, show_default="you", help="Who it stands for.")
@click.option("--ttl", default="1h", show_default=True, help="How long it counts.")
def token(tenant: str, scopes: Sequence[str], subject: str, ttl: str) -> None:
    """Sign a bearer token with ORCHESTRATOR_JWT_SECRET. With an identity provider's keys, ask that for one."""
    import jwt

    from orchestrator.api.keys import SharedSecret

    given = settings.load()
    if not given.jwt_secret:
        raise SettingsError(
            "ORCHESTRATOR_JWT_SECRET is not set: only an installation that signs its own tokens can make one"
        )
    SharedSecret(given.jwt_secret)  # raises for one that no server would take
    now = int(time.time())
    claims = {
        "sub": subject, given.jwt_tenant_claim: tenant, "scope": _known(scopes), "aud": given.jwt_audience,
        "iat": now, "exp": now + int(_lifetime(ttl)), **({"iss": given.jwt_issuer} if given.jwt_issuer else {}),
    }  # fmt: skip
    click.echo(jwt.encode(claims, given.jwt_secret, algorithm="HS256"))


def _known(given: Sequence[str]) -> str:
    from orchestrator.api.auth import SCOPES

    asked = dict.fromkeys(" ".join(given).split())
    if not asked or (unknown := [scope for scope in asked if scope not in SCOPES]):
        told = f"there is no scope {', '.join(unknown)}" if asked else "no scope is named"
        raise click.BadParameter(f"{told}; there are {', '.join(sorted(SCOPES))}", param_hint="--scope")
    return " ".join(asked)


def _lifetime(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--ttl") from error
