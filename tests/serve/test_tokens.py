import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import ConfigError, UnavailableError
from tailwise.serve.keys import Caller
from tailwise.serve.tokens import TokenConfig, Tokens, read_tokens

ISSUER, AUDIENCE = "https://id.example", "tailwise"
RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
SECRET = "s" * 40


class Hands:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def jwk(key: Any, kid: str) -> dict[str, Any]:
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}


def claims(**other: Any) -> dict[str, Any]:
    now = time.time()
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "till 7", "exp": now + 60, "iat": now, "scope": "read write"}
    return {name: value for name, value in {**usual, **other}.items() if value is not None}


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "r1", **other: Any) -> str:
    return jwt.encode(claims(**other), key, algorithm, headers={} if kid is None else {"kid": kid})


class Provider:
    """An identity provider's keys over real HTTP; what it gives can be changed, and how often it was asked is known."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [jwk(RSA, "r1"), jwk(EC, "e1")]
        self.body: bytes | None = None
        self.status, self.asked, self.silent = 200, 0, threading.Event()
        self.silent.set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                provider.silent.wait(10)
                self.send_response(provider.status)
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()
                self.wfile.write(provider.body or json.dumps({"keys": provider.keys}).encode())

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/jwks.json"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.silent.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.close()


def config(provider: Provider, **other: Any) -> TokenConfig:
    return TokenConfig(issuer=ISSUER, audience=AUDIENCE, jwks=provider.url, **other)


def find(tokens: Tokens, text: str) -> Caller | None:
    return asyncio.run(tokens.find(text, time.time()))


def test_tokens_of_both_kinds_of_public_keys_are_believed(provider: Provider) -> None:
    tokens = Tokens(config(provider))

    by_rsa, by_ec = find(tokens, token()), find(tokens, token(EC, "ES256", "e1"))

    assert by_rsa is not None
    assert by_ec is not None
    assert by_rsa.scopes == {"read", "write"}
    assert by_rsa.tenant == ""
    assert by_rsa.name == by_ec.name  # of one subject
    assert "till" not in by_rsa.name
    assert provider.asked == 1


def test_a_shared_secret_is_believed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    tokens = Tokens(
        TokenConfig(issuer=ISSUER, audience=AUDIENCE, algorithms=("HS256",), secret_file=tmp_path / "secret")
    )

    assert find(tokens, token(SECRET, "HS256", None)) is not None
    assert find(tokens, token("x" * 40, "HS256", None)) is None
    assert find(tokens, token(SECRET + "x" * 30, "HS512", None)) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"aud": ["another", "third"]},
        {"exp": time.time() - 31},
        {"exp": None},
        {"exp": "soon"},
        {"exp": 10**400},
        {"nbf": time.time() + 3600},
        {"iat": time.time() + 3600},
        {"sub": None},
    ],
    ids=lambda wrong: "-".join(  # a moment of now would name the test otherwise in every process
        name if isinstance(value, float) else f"{name}={str(value)[:12]}" for name, value in wrong.items()
    ),
)
def test_a_token_that_says_something_else_is_not_believed(provider: Provider, wrong: dict[str, Any]) -> None:
    assert find(Tokens(config(provider)), token(**wrong)) is None


def test_clocks_may_differ_by_the_leeway(provider: Provider) -> None:
    tokens = Tokens(config(provider, leeway_s=30))

    assert find(tokens, token(exp=time.time() - 25)) is not None
    assert find(tokens, token(exp=time.time() - 35)) is None


def test_an_audience_among_others_is_enough(provider: Provider) -> None:
    assert find(Tokens(config(provider)), token(aud=["another", AUDIENCE])) is not None


def unsigned(header: dict[str, Any]) -> str:
    parts = (json.dumps(part).encode() for part in (header, claims()))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 5, ["RS256"], "HS256", "RS512"])
def test_a_token_without_a_signature_of_an_allowed_kind_is_not_believed(provider: Provider, algorithm: Any) -> None:
    tokens = Tokens(config(provider))

    for signature in ("", "AAAA"):
        assert find(tokens, f"{unsigned({'alg': algorithm, 'typ': 'JWT', 'kid': 'r1'})}.{signature}") is None


def test_a_public_key_is_no_shared_secret(provider: Provider) -> None:
    tokens = Tokens(config(provider))
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    n = jwk(RSA, "r1")["n"].encode()

    for secret in (pem, der, n):
        body = unsigned({"alg": "HS256", "typ": "JWT", "kid": "r1"})
        signature = base64.urlsafe_b64encode(hmac.digest(secret, body.encode(), hashlib.sha256)).rstrip(b"=").decode()
        assert find(tokens, f"{body}.{signature}") is None


def test_a_key_that_a_token_brings_along_is_not_believed(provider: Provider) -> None:
    headers = {"kid": "mine", "jwk": jwk(OTHER, "mine"), "jku": provider.url, "x5u": provider.url}
    brought = jwt.encode(claims(), OTHER, "RS256", headers=headers)

    assert find(Tokens(config(provider)), brought) is None


def test_a_key_of_one_kind_does_not_verify_for_another(provider: Provider) -> None:
    tokens = Tokens(config(provider))

    assert find(tokens, token(RSA, "RS256", "e1")) is None
    assert find(tokens, token(OTHER, "RS256", "r1")) is None
    assert find(tokens, token(RSA, "RS256", None)) is None  # which of the two?


@given(st.text(max_size=40), st.integers(0, 700), st.sampled_from("abcXYZ019-_.="))
def test_no_garbled_token_is_believed(text: str, place: int, letter: str) -> None:
    tokens = Tokens.__new__(Tokens)
    tokens.__dict__.update(GARBLED.__dict__)
    place %= len(GOOD)
    garbled = GOOD[:place] + letter + GOOD[place + 1 :]

    assert find(tokens, text) is None
    assert find(tokens, f"{text}.{text}.{text}") is None
    # The last letter of 2048 bits in base64 has bits that say nothing.
    assert garbled == GOOD or place == len(GOOD) - 1 or find(tokens, garbled) is None


@pytest.fixture(scope="module", autouse=True)
def garbled(tmp_path_factory: pytest.TempPathFactory) -> None:
    global GARBLED, GOOD
    path = tmp_path_factory.mktemp("jwks") / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk(RSA, "r1")]}))
    GARBLED, GOOD = Tokens(TokenConfig(issuer=ISSUER, audience=AUDIENCE, jwks=str(path))), token(exp=time.time() + 9999)


def test_scopes_and_tenant_come_from_the_claims_that_the_settings_name(provider: Provider) -> None:
    tokens = Tokens(config(provider, scope_claim="roles", scope_prefix="tw:", tenant_claim="org"))

    caller = find(tokens, token(roles=["tw:read", "admin", "tw:root", 7], org="shop"))
    nobody = find(tokens, token(roles={"tw:read": 1}, org=["shop"]))

    assert caller is not None
    assert nobody is not None
    assert (caller.scopes, caller.tenant) == ({"read"}, "shop")
    assert nobody.scopes == frozenset()
    assert nobody.tenant == "?"  # which no tenant is called


def test_a_claim_of_another_form_allows_nothing(provider: Provider) -> None:
    tokens = Tokens(config(provider))

    for told in (7, None, True, {"read": True}, [["read"]]):
        caller = find(tokens, token(scope=told))
        assert caller is not None
        assert caller.scopes == frozenset()


def test_a_new_key_is_fetched_when_a_token_names_it(provider: Provider) -> None:
    hands = Hands()
    tokens = Tokens(config(provider), clock=hands)
    provider.keys.append(jwk(OTHER, "r2"))
    fresh = token(OTHER, "RS256", "r2")

    at_once = find(tokens, fresh)
    hands.seconds = 11
    later = find(tokens, fresh)

    assert at_once is None  # an unknown id asks the provider only now and then
    assert later is not None
    assert provider.asked == 2


def test_unknown_ids_do_not_make_us_ask_without_end(provider: Provider) -> None:
    hands = Hands()
    tokens = Tokens(config(provider), clock=hands)
    hands.seconds = 11

    for number in range(50):
        assert find(tokens, token(OTHER, "RS256", f"x{number}")) is None

    assert provider.asked == 2


def test_a_key_that_the_provider_withdraws_opens_nothing_after_a_refresh(provider: Provider) -> None:
    hands = Hands()
    tokens = Tokens(config(provider, refresh_s=60), clock=hands)
    text = token()
    assert find(tokens, text) is not None

    provider.keys = [jwk(EC, "e1")]
    hands.seconds = 61

    assert find(tokens, text) is None


def test_a_provider_that_is_away_later_changes_nothing(provider: Provider) -> None:
    hands = Hands()
    tokens = Tokens(config(provider, refresh_s=60), clock=hands)

    provider.status = 503
    hands.seconds = 61
    after_an_error = find(tokens, token())
    provider.status, provider.body = 200, b"[1, 2]"
    hands.seconds = 122

    assert after_an_error is not None
    assert find(tokens, token()) is not None


def test_a_provider_that_is_away_at_the_start_is_told(provider: Provider) -> None:
    provider.status = 302
    with pytest.raises(UnavailableError, match=r"^http://127.*jwks\.json cannot be read: HTTP Error 302: Found$"):
        Tokens(config(provider))
    provider.status, provider.body = 200, b" " * 300_000
    with pytest.raises(UnavailableError, match=r"^http://.* gives more than 256 KiB, which is no set of keys$"):
        Tokens(config(provider))
    provider.body = b'{"keys": 5}'
    with pytest.raises(ConfigError, match=r"^http://.*jwks\.json is no set of keys \(JWKS\): \w+$"):
        Tokens(config(provider))


def test_why_a_token_is_refused_is_told_to_who_runs_the_service_once_a_minute(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    hands = Hands()
    tokens = Tokens(config(provider), clock=hands)
    refused = [token(aud="elsewhere"), token(aud="another"), token(iss="x"), token(sub=None), token(exp=1.0)]
    refused += [token(kid="unknown"), token("s" * 32, "HS256")]

    found = [find(tokens, text) for text in refused]
    hands.seconds = 61
    find(tokens, token(aud="elsewhere"))

    assert found == [None] * 7
    said = [message.removeprefix("a token was refused: ") for message in caplog.messages]
    assert said == [
        "Audience doesn't match",
        "Invalid issuer",
        'Token is missing the "sub" claim',
        "the provider has no key of the id that it names",
        "its algorithm is none of those in the settings",
        "Audience doesn't match",
    ]


def test_a_provider_that_is_silent_is_given_up(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailwise.serve.tokens.FETCH_S", 0.05)
    provider.silent.clear()

    with pytest.raises(UnavailableError, match=r"^http://.*jwks\.json cannot be read: .*timed out.*$"):
        Tokens(config(provider))


def test_a_token_that_was_seen_still_expires(provider: Provider) -> None:
    tokens = Tokens(config(provider, leeway_s=0))
    text, now = token(exp=time.time() + 50), time.time()

    assert asyncio.run(tokens.find(text, now)) is not None
    assert asyncio.run(tokens.find(text, now + 51)) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"algorithms": ["HS256", "RS256"], "jwks": "x"}, r"HS256 stands alone: give secret_file, no jwks, and no .*"),
        ({"algorithms": ["HS256"], "jwks": "x", "secret_file": "y"}, r"HS256 stands alone: .*"),
        ({"algorithms": ["RS256"]}, r"RS256 and ES256 need jwks, and no secret_file"),
        ({"algorithms": ["none"], "jwks": "x"}, r"algorithms\.0 is 'none', but: Input should be .*"),
        ({"jwks": "http://id.example/k"}, r"jwks is 'http://id\.example/k', but keys that come over http .*"),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    import tomli_w

    (tmp_path / "jwt.toml").write_text(tomli_w.dumps({"issuer": ISSUER, "audience": AUDIENCE, **fields}))

    with pytest.raises(ConfigError, match=rf"^.*jwt\.toml: {message}$"):
        read_tokens(tmp_path / "jwt.toml")


def test_files_that_the_settings_name_lie_beside_them(tmp_path: Path) -> None:
    settings = f'issuer = "{ISSUER}"\naudience = "{AUDIENCE}"\n'
    (tmp_path / "jwt.toml").write_text(settings + 'jwks = "keys.json"\n')
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [jwk(RSA, "r1")]}))

    assert find(Tokens(read_tokens(tmp_path / "jwt.toml")), token()) is not None


def test_a_secret_that_is_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("short")
    wanted = TokenConfig(issuer=ISSUER, audience=AUDIENCE, algorithms=("HS256",), secret_file=tmp_path / "secret")

    with pytest.raises(ConfigError, match=r"^the secret in .*secret has 5 bytes, but HS256 needs 32$"):
        Tokens(wanted)
