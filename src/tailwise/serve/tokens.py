"""
Tokens of an identity provider (JWT, OpenID Connect): verified by PyJWT against keys of a file or an address.

    token ─▶ seen before ─▶ Caller
      └─ new ─▶ algorithm allowed ─▶ key of the set ─▶ signature, exp, iss, aud ─▶ Caller
                                      └─ an id that nobody knows: fetched again

Algorithms come from the settings and never from the token. A shared secret (HS256) and a set of public keys are
never accepted side by side, so that nobody can pass a public key off as a secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from starlette.concurrency import run_in_threadpool

from tailwise.config import Closed, settings_of
from tailwise.errors import ConfigError, UnavailableError
from tailwise.serve.keys import ADMIN, READ, WRITE, Caller, Limit

log = logging.getLogger(__name__)

FETCH_S = 3.0
"""How long the provider may take to give its keys, in seconds."""
MOST_BYTES = 256 * 1024
"""Of a key set, and far above any."""
AGAIN_S = 10.0
"""Key sets are fetched at most this often for the sake of ids that nobody knows, in seconds."""
SAY_S = 60.0
"""Between two lines that say the same of refused tokens, in seconds."""
MOST_KEPT = 10_000
LEAST_SECRET = 32
"""Bytes of a shared secret: as many as HS256 gives out (RFC 7518, 3.2)."""


class TokenConfig(Closed):
    """What a token must say to be believed, and where it says what its bearer may do: the file of ``--jwt``."""

    issuer: Annotated[str, Field(min_length=1)]
    """``iss`` must be this."""
    audience: Annotated[str, Field(min_length=1)]
    """``aud`` must be this, or hold it."""
    algorithms: Annotated[tuple[Literal["HS256", "RS256", "ES256"], ...], Field(min_length=1)] = ("RS256", "ES256")
    """Those that are accepted; HS256 stands alone."""
    jwks: str | None = None
    """Public keys: a file, or an ``https`` address (``http`` on this machine alone)."""
    secret_file: Path | None = None
    """For HS256: a file with the secret, at least 32 bytes."""
    refresh_s: Annotated[float, Field(ge=1, le=86_400)] = 600.0
    """Seconds after which the keys are fetched again."""
    leeway_s: Annotated[float, Field(ge=0, le=300)] = 30.0
    """Seconds that clocks may differ."""
    scope_claim: str = "scope"
    """Claim with the scopes: a list, or words with spaces between."""
    scope_prefix: str = ""
    """In front of ``read``, ``write`` and ``admin`` there, as in ``tailwise:read``."""
    tenant_claim: str | None = None
    """Claim with the tenant; None for a service of one model."""
    limit: Limit = Limit()
    """Of each subject."""

    @model_validator(mode="after")
    def _one_kind_of_key(self) -> Self:
        shared = "HS256" in self.algorithms
        if shared and (len(self.algorithms) > 1 or self.secret_file is None or self.jwks is not None):
            raise ValueError("HS256 stands alone: give secret_file, no jwks, and no other algorithm")
        if not shared and (self.jwks is None or self.secret_file is not None):
            raise ValueError("RS256 and ES256 need jwks, and no secret_file")
        local = ("http://127.0.0.1", "http://localhost", "http://[::1]")
        if self.jwks is not None and self.jwks.startswith("http://") and not self.jwks.startswith(local):
            raise ValueError(f"jwks is {self.jwks!r}, but keys that come over http may be anybody's; give https")
        return self


def read_tokens(path: Path) -> TokenConfig:
    """
    The settings of a file; the files that it names lie beside it.

    Raises:
        UnavailableError: It cannot be read.
        ConfigError: It is not TOML, or a setting is wrong.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        form = 'it holds issuer = "…", audience = "…" and jwks = "https://…"'
        raise UnavailableError(f"{path} cannot be read: {error.strerror}; {form}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    if isinstance(raw.get("secret_file"), str):
        raw["secret_file"] = str(path.parent / raw["secret_file"])
    if isinstance(raw.get("jwks"), str) and "://" not in raw["jwks"]:
        raw["jwks"] = str(path.parent / raw["jwks"])
    return settings_of(TokenConfig, raw, where=str(path))


class Tokens:
    """
    Verifies tokens, and remembers those that it verified until they expire or the keys change.

    Raises:
        UnavailableError: PyJWT is missing, or the keys cannot be had now.
        ConfigError: The secret is too short, or the keys are none.

    Cost: some 2 µs for a token that was seen before, 50 to 150 µs for a new one; a fetch waits in a thread.
    """

    def __init__(self, config: TokenConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            import jwt
        except ImportError as error:
            raise UnavailableError("tokens need PyJWT: pip install 'tailwise[ops]'") from error
        self._jwt, self._config, self._clock = jwt, config, clock
        self._seen: dict[bytes, tuple[Caller, float]] = {}
        self._keys: dict[str | None, Any] = {}
        self._said: dict[str, float] = {}  # why tokens were refused, and when that was logged
        self._turn = asyncio.Lock()
        self._take_in()

    async def find(self, token: str, now: float) -> Caller | None:
        """Whose token this is; None when it is not to be believed, or has expired."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        seen = self._seen.get(digest)
        if seen is not None and self._clock() - self._taken < self._config.refresh_s:
            return seen[0] if now < seen[1] else None
        key = await self._key(token)
        if key is None:
            return None
        try:
            claims = self._jwt.decode(
                token,
                key,
                algorithms=list(self._config.algorithms),
                audience=self._config.audience,
                issuer=self._config.issuer,
                leeway=self._config.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            caller = self._caller(claims)
        except (self._jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            if not isinstance(error, self._jwt.ExpiredSignatureError):  # those come every day
                ours = isinstance(error, self._jwt.PyJWTError)
                self._say(str(error).partition(":")[0] if ours else type(error).__name__)
            return None
        if len(self._seen) >= MOST_KEPT:
            self._seen.clear()
        self._seen[digest] = caller, caller.expires
        return caller if now < caller.expires else None

    def _caller(self, claims: dict[str, Any]) -> Caller:
        """What the claims allow; what they do not say, or say in another form, is not allowed."""
        config = self._config
        told = claims.get(config.scope_claim, "")
        words = told.split() if isinstance(told, str) else told if isinstance(told, list) else []
        known = {f"{config.scope_prefix}{scope}": scope for scope in (READ, WRITE, ADMIN)}
        tenant = "" if config.tenant_claim is None else claims.get(config.tenant_claim)
        scopes = frozenset(known[word] for word in words if isinstance(word, str) and word in known)
        # A tenant that is no text is nobody's: "?" is none that could be served.
        name = hashlib.sha256(f"{config.issuer} {claims['sub']}".encode()).hexdigest()[:16]
        expires = float(claims["exp"]) + config.leeway_s
        return Caller(f"jwt-{name}", tenant if isinstance(tenant, str) else "?", scopes, config.limit, expires)

    async def _key(self, token: str) -> Any:
        """The key that the token's header names; None when there is none, or the algorithm is not allowed."""
        try:
            header = self._jwt.get_unverified_header(token)
        except (self._jwt.PyJWTError, ValueError, TypeError):
            return None
        if header.get("alg") not in self._config.algorithms:
            self._say("its algorithm is none of those in the settings")
            return None
        if self._config.secret_file is not None:
            return self._secret
        kid = header.get("kid")
        kid = kid if isinstance(kid, str) else None
        age = self._clock() - self._taken
        if age > self._config.refresh_s or (self._named(kid) is None and age > AGAIN_S):
            async with self._turn:
                if self._clock() - self._taken >= min(age, AGAIN_S):  # nobody fetched while we waited
                    await run_in_threadpool(self._refresh)
        found = self._named(kid)
        if found is None:
            self._say("the provider has no key of the id that it names")
        return None if found is None else found.key

    def _say(self, why: str) -> None:
        """Tell whoever runs the service why a token was refused, which its caller is not told: once a minute each."""
        now = self._clock()
        if now - self._said.get(why, -math.inf) >= SAY_S:
            self._said[why] = now
            log.warning("a token was refused: %s", why)

    def _named(self, kid: str | None) -> Any:
        """A key by its id; without an id the only one there is."""
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    def _refresh(self) -> None:
        """New keys; when they cannot be had the old ones stand, and the next try waits a while."""
        try:
            self._take_in()
        except (UnavailableError, ConfigError) as error:
            self._taken = self._clock()
            log.warning("the keys of tokens stay as they were: %s", error)

    def _take_in(self) -> None:
        config = self._config
        if config.secret_file is not None:
            self._secret = _read(str(config.secret_file)).strip()
            if len(self._secret) < LEAST_SECRET:
                raise ConfigError(
                    f"the secret in {config.secret_file} has {len(self._secret)} bytes, but HS256 needs {LEAST_SECRET}"
                )
        else:
            assert config.jwks is not None
            try:
                keys = self._jwt.PyJWKSet.from_dict(json.loads(_read(config.jwks))).keys
            except (self._jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
                raise ConfigError(f"{config.jwks} is no set of keys (JWKS): {type(error).__name__}") from error
            self._keys = {key.key_id: key for key in keys if key.key_type in {"RSA", "EC"}}
        self._seen.clear()
        self._taken = self._clock()


class _Stay(urllib.request.HTTPRedirectHandler):
    """Redirects lead to whoever the answer names; keys come from where the settings say."""

    def redirect_request(self, *_: object) -> None:
        return None


def _read(where: str) -> bytes:
    """
    A file, or what an address gives.

    Raises:
        UnavailableError: It cannot be had in time, or is too large.
    """
    try:
        if "://" not in where:
            return Path(where).read_bytes()
        if not where.startswith(("http://", "https://")):
            raise UnavailableError(f"{where} is neither a file nor an address of http")
        opener = urllib.request.build_opener(_Stay, urllib.request.ProxyHandler())
        with opener.open(where, timeout=FETCH_S) as answer:
            body: bytes = answer.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer too, with its connection
        why = error.reason if type(error) is urllib.error.URLError else error  # which wraps what went wrong
        remedy = "; name the authority that signed it: SSL_CERT_FILE=ca.pem" if "CERTIFICATE" in str(why) else ""
        raise UnavailableError(f"{where} cannot be read: {why}{remedy}") from error
    if len(body) > MOST_BYTES:
        raise UnavailableError(f"{where} gives more than {MOST_BYTES // 1024} KiB, which is no set of keys")
    return body
