"""Callback tokens: an HMAC over the wait that they open. Recomputed, never stored; spent when the row is decided."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import quote

from itsdangerous import BadSignature, Signer

from orchestrator.states import Phase


@dataclass(frozen=True, kw_only=True)
class Wait:
    """What a token opens: one generation of one step of one instance."""

    trace: str
    step: str
    phase: Phase
    generation: int


class Tokens:
    def __init__(self, secret: str) -> None:
        self._secret = secret

    def make(self, wait: Wait) -> str:
        """`g1.do.SIGNATURE`; the same at every attempt."""
        return self._signer(wait.trace, wait.step).sign(f"g{wait.generation}.{wait.phase}").decode()

    def read(self, trace: str, step: str, token: str) -> Wait | None:
        """The wait that a token opens; None when it is not one of ours for this step."""
        try:
            value = self._signer(trace, step).unsign(token).decode()
        except (BadSignature, UnicodeEncodeError):  # the latter: half of a surrogate pair
            return None
        generation, phase = value[1:].split(".")
        return Wait(trace=trace, step=step, phase="undo" if phase == "undo" else "do", generation=int(generation))

    def url(self, base: str, wait: Wait) -> str:
        return f"{base}/callbacks/{wait.trace}/{quote(wait.step)}?token={self.make(wait)}"

    def completion_key(self, tenant: str) -> str:
        """Signs what a tenant's receivers are told. Another than the secret: who checks with it can open no callback."""
        return hmac.new(self._secret.encode(), f"completion:{tenant}".encode(), hashlib.sha256).hexdigest()

    def _signer(self, trace: str, step: str) -> Signer:
        return Signer(self._secret, salt=f"callback:{trace}:{step}")
