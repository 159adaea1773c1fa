"""An identity provider of the tests': keys of each kind, and tokens signed by them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://id.city.example/"
AUDIENCE = "orchestrator"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, kw_only=True)
class Signer:
    """One key pair and the algorithm that it is for."""

    kid: str
    algorithm: str
    private: PrivateKey = field(repr=False)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half, as a JWKS document lists it."""
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            told = RSAAlgorithm.to_jwk(public, as_dict=True)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            told = ECAlgorithm.to_jwk(public, as_dict=True)
        else:
            told = OKPAlgorithm.to_jwk(public, as_dict=True)
        told.pop("key_ops", None)
        return {**told, "kid": self.kid, "use": "sig", "alg": self.algorithm}

    def token(self, *, headers: dict[str, Any] | None = None, **changed: Any) -> str:
        """Signed for city-a's clerk, valid for an hour; `changed` replaces claims, None takes one away."""
        return jwt.encode(
            claims(**changed), self.private, algorithm=self.algorithm, headers=headers or {"kid": self.kid}
        )


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    told = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "clerk",
        "tenant": "city-a",
        "iat": now,
        "exp": now + 3600,
        **changed,
    }
    return {name: value for name, value in told.items() if value is not None}


def document(*signers: Signer) -> bytes:
    return json.dumps({"keys": [signer.jwk for signer in signers]}).encode()


def rsa_signer(kid: str = "rsa", bits: int = 2048) -> Signer:
    return Signer(kid=kid, algorithm="RS256", private=rsa.generate_private_key(public_exponent=65537, key_size=bits))


def ec_signer(kid: str = "ec") -> Signer:
    return Signer(kid=kid, algorithm="ES256", private=ec.generate_private_key(ec.SECP256R1()))


def ed_signer(kid: str = "ed") -> Signer:
    return Signer(kid=kid, algorithm="EdDSA", private=ed25519.Ed25519PrivateKey.generate())
