import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tailwise.errors import ConfigError, UnavailableError
from tailwise.pipeline import Engine
from tailwise.serve.app import create_app
from tailwise.serve.doors import check_doors, tls_of
from tailwise.serve.keys import create_key
from tailwise.serve.running import QUIET
from tailwise.serve.service import Service

if TYPE_CHECKING:
    from playwright.sync_api import Dialog


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of this machine, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
    own = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = made.add_extension(own, critical=False).sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "cert.pem", folder / "key.pem"


@contextmanager
def serving(engine: Engine, service: Service) -> Iterator[str]:
    """The application behind a real uvicorn, as ``serve`` would start it; where it listens."""
    check_doors(service)
    server = uvicorn.Server(uvicorn.Config(create_app(engine, service), **QUIET, **tls_of(service)))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_tls_serves_https_and_tells_browsers_to_stay_with_it(engine: Engine, certificate: tuple[Path, Path]) -> None:
    service = Service(model=Path(), tls_cert=certificate[0], tls_key=certificate[1])
    with serving(engine, service) as place:
        answer = httpx.get(f"https://{place}/health", verify=ssl.create_default_context(cafile=certificate[0]))

    assert answer.json() == {"status": "ok"}
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is missing: apt-get install chromium")
def test_the_page_asks_for_a_key_once_and_then_works(engine: Engine, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install 'tailwise[dev]'")
    keys = tmp_path / "keys.toml"
    _, secret = create_key(keys, now=time.time(), scopes=("read", "write", "admin"))
    service = Service(model=tmp_path / "cinema", keys=keys, state="memory://")
    asked: list[str] = []

    def answer(dialog: "Dialog") -> None:
        asked.append(dialog.message)
        dialog.accept(secret)

    with serving(engine, service) as place, sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        page = browser.new_context(locale="en-US").new_page()
        page.on("dialog", answer)
        page.goto(f"http://{place}/#user=u1")
        page.wait_for_selector("#reranked > li")
        shown = page.locator("#reranked > li").count()
        address = page.url
        browser.close()

    assert shown == 10
    assert asked == ["This service needs a key. With read, write and admin it may do all that this page shows."]
    assert secret not in address


def test_plain_http_says_nothing_of_tls(served: str) -> None:
    assert "strict-transport-security" not in httpx.get(f"{served}/health").headers


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com"])
def test_an_open_service_for_other_machines_is_warned_of(host: str, caplog: pytest.LogCaptureFixture) -> None:
    check_doors(Service(model=Path(), host=host))

    wanted = "can be reached from other machines, and without --keys or --jwt whoever reaches it may read and erase"
    assert caplog.messages == [f"{host} {wanted}"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_an_open_service_for_this_machine_is_not(host: str, caplog: pytest.LogCaptureFixture) -> None:
    check_doors(Service(model=Path(), host=host))

    assert caplog.messages == []


def test_keys_make_the_warning_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    create_key(tmp_path / "keys.toml", now=time.time(), scopes=("read",))

    check_doors(Service(model=Path(), host="0.0.0.0", keys=tmp_path / "keys.toml"))

    assert caplog.messages == []


def test_what_must_not_be_started_is_refused(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    create_key(tmp_path / "keys.toml", now=time.time(), scopes=("read",))
    with pytest.raises(ConfigError, match=r"^tenants are told apart by their keys: give --keys FILE or --jwt FILE$"):
        check_doors(Service(model=tmp_path, tenants=tmp_path))
    message = r"^.*secret cannot be read: No such file or directory; make one with: openssl rand -hex 32 > .*secret$"
    with pytest.raises(UnavailableError, match=message):
        check_doors(Service(model=tmp_path, pseudonymise=tmp_path / "secret"))
    with pytest.raises(ConfigError, match=r"^traces is 'here', but it must be as http://collector:4318/v1/traces$"):
        check_doors(Service(model=tmp_path, traces="here"))
    with pytest.raises(ConfigError, match=r"^.*no\.pem is not there; TLS takes --tls-cert FILE and --tls-key FILE"):
        check_doors(Service(model=tmp_path, tls_cert=tmp_path / "no.pem"))
    with pytest.raises(ConfigError, match=r"^tls_cert .* are of no use: .*; name the key: --tls-key FILE$"):
        check_doors(Service(model=tmp_path, tls_cert=certificate[0]))
    with pytest.raises(ConfigError, match=r"^tls_key is given without tls_cert; .* --tls-cert FILE$"):
        check_doors(Service(model=tmp_path, tls_key=certificate[1]))
    with pytest.raises(ConfigError, match=r"^tls_cert .*key\.pem and its key are of no use: .*$"):
        check_doors(Service(model=tmp_path, tls_cert=certificate[1], tls_key=certificate[1]))
    with pytest.raises(UnavailableError, match=r"^.*nothing\.toml cannot be read: .*$"):
        check_doors(Service(model=tmp_path, jwt=tmp_path / "nothing.toml"))


def test_a_trial_needs_a_model_and_a_service_of_one(tmp_path: Path) -> None:
    other = tmp_path / "next"
    wrong = {
        r"^canary is .*next, which holds no model; make one with: tailwise fit$": {"canary": other},
        r"^shadow is one model, but tenants have a model each; start a service of one to try it$": {
            "shadow": other,
            "tenants": tmp_path,
            "keys": tmp_path / "keys.toml",
        },
    }
    create_key(tmp_path / "keys.toml", now=time.time(), scopes=("read",))

    for message, given in wrong.items():
        with pytest.raises(ConfigError, match=message):
            check_doors(Service.model_validate({"model": tmp_path, **given}))
