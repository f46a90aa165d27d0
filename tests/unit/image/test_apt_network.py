"""Files of apt archives are fetched as apt would fetch them; all others as the environment says."""

import hashlib
from contextlib import contextmanager

import mirror as servers
import pytest

from vault_cube.image.apt_network import AptNetwork
from vault_cube.image.store import Store, Unavailable, Wanted

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """apt(text) configures the real apt of this machine with a file, and reads it."""

    def configured(text):
        (tmp_path / "apt.conf").write_text(f'Dir "{tmp_path}"; Dir::Etc "etc"; Dir::Etc::Parts "/dev/null";\n{text}\n')
        monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
        (tmp_path / "etc/auth.conf.d").mkdir(parents=True, exist_ok=True)
        return AptNetwork.of_machine()

    return configured


def proxy(network, url):
    return network.arguments(url)["proxies"][url.partition(":")[0]]


CONF = """
Acquire::http::Proxy "http://general.example:3128";
Acquire::http::Proxy::near.example "DIRECT";
Acquire::HTTP::proxy::Special.Example "http://special.example:1";
"""


@pytest.mark.parametrize(("url", "expected"), [
    ("http://far.example/debian", "http://general.example:3128"),
    ("http://near.example/debian", ""),
    ("http://near.example:8080/debian", ""),
    ("http://special.example/debian", "http://special.example:1"),
    # apt takes http's setting for https if https has none
    ("https://far.example/debian", "http://general.example:3128"),
    ("https://near.example/debian", ""),
])  # fmt: skip
def test_the_proxy_of_the_host_comes_before_the_general_one(apt, url, expected):
    assert proxy(apt(CONF), url) == expected


def test_https_has_a_proxy_of_its_own(apt):
    network = apt(CONF + 'Acquire::https::Proxy "http://secure.example:1"; Acquire::https::Proxy::a.example "DIRECT";')
    assert proxy(network, "https://far.example/x") == "http://secure.example:1"
    assert proxy(network, "https://a.example/x") == ""
    assert proxy(network, "http://a.example/x") == "http://general.example:3128"


@pytest.mark.parametrize("value", ["DIRECT", "direct", "false"])
def test_without_a_proxy_in_apt_s_configuration_no_other_is_used(apt, monkeypatch, value):
    monkeypatch.setenv("http_proxy", "http://environment.example:1")
    assert proxy(apt(f'Acquire::http::Proxy "{value}";'), "http://far.example/x") == ""


def test_the_environment_counts_if_apt_has_no_setting_and_no_proxy_always(apt, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://environment.example:1")
    monkeypatch.setenv("no_proxy", "near.example,.inner.example")
    network = apt("")
    assert proxy(network, "http://far.example/x") == "http://environment.example:1"
    assert proxy(network, "http://near.example/x") == ""
    assert proxy(apt('Acquire::http::Proxy "http://general.example:1";'), "http://a.inner.example/x") == ""


@pytest.mark.parametrize("option", ["Proxy-Auto-Detect", "ProxyAutoDetect"])
@pytest.mark.parametrize(("answer", "expected"), [
    ("http://detected.example:1", "http://detected.example:1"), ("DIRECT", ""), ("", "http://general.example:3128"),
])  # fmt: skip
def test_a_proxy_is_detected_by_apt_s_program(apt, tmp_path, option, answer, expected):
    program = tmp_path / "detect"
    program.write_text(f"#!/bin/sh\necho $1 >>{tmp_path}/asked\necho {answer}\n")
    program.chmod(0o755)
    network = apt(CONF + f'Acquire::http::{option} "{program}";')
    assert proxy(network, "http://far.example/a") == expected
    assert proxy(network, "http://special.example/a") == "http://special.example:1"
    assert (tmp_path / "asked").read_text() == "http://far.example/a\n"


@pytest.mark.parametrize(("machine", "url", "expected"), [
    ("private.example", "https://private.example/debian/x", ("me", "s3cret")),
    ("private.example", "http://private.example/debian/x", None),
    ("http://private.example", "http://private.example/debian/x", ("me", "s3cret")),
    ("private.example/debian", "https://private.example/debian/x", ("me", "s3cret")),
    ("private.example/ubuntu", "https://private.example/debian/x", None),
    ("private.example:8443", "https://private.example:8443/x", ("me", "s3cret")),
    ("other.example", "https://private.example/x", None),
])  # fmt: skip
def test_logins_are_those_of_auth_conf(apt, tmp_path, machine, url, expected):
    network = apt("")
    (tmp_path / "etc/auth.conf.d/mine.conf").write_text(f"# mine\nmachine {machine}\n  login me password s3cret\n")
    assert network.arguments(url).get("auth") == expected


def test_a_login_in_the_url_comes_before_auth_conf(apt, tmp_path):
    network = apt("")
    (tmp_path / "etc/auth.conf").write_text("machine a.example login me password other")
    assert "auth" not in network.arguments("https://you:pw@a.example/x")


def test_certificates_are_those_of_apt(apt):
    network = apt('Acquire::https::CAInfo "/all.pem"; Acquire::https::a.example::Verify-Peer "false";')
    assert network.arguments("https://b.example/x")["verify"] == "/all.pem"
    assert network.arguments("https://a.example/x")["verify"] is False
    assert "verify" not in network.arguments("http://b.example/x")


# ---- downloads


@contextmanager
def serving(folder):
    folder.mkdir()
    with servers.running(folder) as mirror:
        yield mirror


@pytest.fixture
def proxy_server(tmp_path):
    with serving(tmp_path / "proxy") as mirror:
        yield mirror


@pytest.fixture
def mirror(tmp_path):
    with serving(tmp_path / "served") as mirror:
        (mirror.folder / "file").write_bytes(b"content")
        yield mirror


def wanted(url, by_apt):
    return Wanted(hashlib.sha256(b"content").hexdigest(), "file", 7, (url,), by_apt=by_apt)


def test_a_wheel_is_not_fetched_through_apt_s_proxy(apt, tmp_path, proxy_server, mirror):
    apt(f'Acquire::http::Proxy "{proxy_server.url}";')
    Store(tmp_path / "store").fetch([wanted(f"{mirror.url}/file", by_apt=False)], "wheels")
    assert proxy_server.asked == []


def test_a_package_is_fetched_through_apt_s_proxy(apt, tmp_path, proxy_server, mirror):
    apt(f'Acquire::http::Proxy "{proxy_server.url}";')
    proxy_server.answers["http://far.example/file"] = [
        lambda handler, file, body=True: servers.send(handler, 200, b"content")
    ]
    Store(tmp_path / "store").fetch([wanted("http://far.example/file", by_apt=True)], "packages")
    assert [path for path, _ in proxy_server.asked] == ["http://far.example/file"]


def test_no_proxy_counts_for_packages_and_wheels(apt, tmp_path, proxy_server, mirror, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("http_proxy", proxy_server.url)
    apt(f'Acquire::http::Proxy "{proxy_server.url}";')
    for by_apt in (True, False):
        Store(tmp_path / f"store{by_apt}").fetch([wanted(f"{mirror.url}/file", by_apt)], "files")
    assert proxy_server.asked == []


def test_an_error_of_the_proxy_shows_no_password(apt, tmp_path, mirror, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://me:s3cret@127.0.0.1:9")
    with pytest.raises(Unavailable) as error:
        Store(tmp_path / "store").fetch([wanted("http://far.example/file", by_apt=False)], "files")
    assert "s3cret" not in str(error.value)
    assert error.value.__cause__ is None
