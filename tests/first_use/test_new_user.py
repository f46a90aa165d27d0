"""What a new user meets first: no network, a company's CA, no root, another user's checkout, no git. One line each."""

import os
import shutil
import subprocess
import sys

import https
import mirror
import pytest
import requests
from blocks import TOP
from shell import one_line

from vault_cube.image import checkout, store

UV = TOP / ".venv/bin/uv"
NOBODY = 65534
SET = ("PIP_", "UV_", "SSL_", "REQUESTS_", "CURL_", "http", "HTTP", "ALL_", "all_", "NO_PROXY", "no_proxy")


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """A folder with the certificates of a company."""
    return https.certificates(tmp_path_factory.mktemp("company"))


@pytest.fixture
def machine(tmp_path):
    """The environment of a machine without any setting for packages."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(SET)}
    nothing = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}
    return {**own, **nothing, "PIP_CONFIG_FILE": "/dev/null", "UV_HTTP_RETRIES": "0"}


@pytest.fixture(params=["pip", "uv"])
def install(request, machine, tmp_path):
    """install(settings) lets scripts/wheels.sh fetch one small lock with pip or with uv. Returns its one line of error.

    The stand-in for the new environment passes the script's arguments on to real pip or uv, and lets the other succeed.
    """
    top, venv = tmp_path / "a checkout", tmp_path / "a checkout/.venv"
    (venv / "bin").mkdir(parents=True)
    (top / "locks").mkdir()
    (top / "locks/checkout.lock").write_text(f"uv==0.1 \\\n    --hash=sha256:{'0' * 64}\n")
    for name in ("scripts", "vault_cube"):
        (top / name).symlink_to(TOP / name)
    real = {
        "pip": f'shift; exec {sys.executable} -m pip download --no-deps -d "{tmp_path}" "$@"',
        "uv": f'shift 4; shift 1; exec {UV} pip install --no-deps --target "{tmp_path}/t" "$1" -r "$2"',
    }
    for name in ("pip", "uv"):
        (venv / "bin" / name).write_text(f"#!/bin/sh\n{real[name] if name == request.param else ':'}\n")
    (venv / "bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for file in (venv / "bin").iterdir():
        file.chmod(0o755)

    def run(**settings):
        ran = subprocess.run(
            ["sh", top / "scripts/wheels.sh", ".venv"], cwd=top, env={**machine, **settings}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 1, ran.stderr
        line = one_line(ran.stdout + ran.stderr)
        assert line.startswith("make: cannot install the packages of locks/checkout.lock: ")
        return line

    return run


def test_a_company_s_ca_has_to_be_named_once_for_pip_and_uv(install, company):
    with https.serving(company) as index:
        # by name: pip 24.2 and later end with a traceback for an address whose certificate they do not trust
        url = f"https://localhost:{index.port}/simple"
        line = install(PIP_INDEX_URL=url)
        assert line.endswith(": set PIP_CERT to the file of the CA's certificates, as for a proxy of your company")
        assert index.asked == []
        line = install(PIP_INDEX_URL=url, PIP_CERT=str(company / "ca.pem"))
        assert index.asks("simple/uv/")
        assert ": set PIP_INDEX_URL or PIP_EXTRA_INDEX_URL to an index that has it" in line


def test_a_proxy_that_intercepts_tls_needs_the_same_setting(install, company):
    with https.serving(company, tls=False) as proxy:
        settings = {"PIP_INDEX_URL": f"https://{https.HOST}/simple", "https_proxy": f"http://127.0.0.1:{proxy.port}"}
        install(**settings, PIP_CERT=str(company / "ca.pem"))
        assert proxy.asks("simple/uv/")


def test_a_proxy_that_wants_a_login_is_named(install, company):
    with https.serving(company, tls=False) as proxy:
        proxy.proxy_status = 407
        line = install(PIP_INDEX_URL=f"https://{https.HOST}/simple", https_proxy=f"http://127.0.0.1:{proxy.port}")
    assert line.endswith(": correct https_proxy")
    assert proxy.asked == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/simple", "https://no-such-host.invalid/simple"])
def test_without_a_network_the_ways_out_are_named(install, url):
    line = install(PIP_INDEX_URL=url)
    assert "set PIP_INDEX_URL to an index that this machine reaches, or https_proxy" in line
    assert "docs/how-to/air-gap.md" in line


def test_an_index_that_wants_a_login_is_named(install, company):
    with https.serving(company, tls=False) as index:
        index.otherwise = mirror.status(401)
        line = install(PIP_INDEX_URL=f"http://127.0.0.1:{index.port}/simple")
    assert line.endswith((": correct the login in PIP_INDEX_URL", ", with your login if it asks for one"))


def test_a_file_of_certificates_that_is_missing_is_named(install, company):
    with https.serving(company) as index:
        line = install(PIP_INDEX_URL=f"https://127.0.0.1:{index.port}/simple", PIP_CERT="/no/such/ca.pem")
    assert "PIP_CERT" in line


# ---- downloads of the builder


@pytest.fixture
def refused(monkeypatch, tmp_path):
    """refused(url, **settings) fetches a URL as the builder does. Returns the reason for which it cannot."""
    for name in [name for name in os.environ if name.startswith(SET)]:
        monkeypatch.delenv(name)

    def fetch(url, **settings):
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(requests.RequestException) as caught:
            store.Client.of_machine().get(url, by_apt=False, timeouts_s=(5, 5)).__enter__().raise_for_status()
        return str(store.refusal(caught.value))

    return fetch


def test_the_builder_names_a_certificate_that_is_not_trusted(refused, company):
    with https.serving(company) as index:
        url = f"https://127.0.0.1:{index.port}/file"
        assert refused(url).startswith("its certificate is not trusted: set PIP_CERT, or ")
        assert refused(url, PIP_CERT=str(company / "ca.pem")) == "the server returned status 404"


def test_the_builder_names_a_proxy_that_refuses(refused, company):
    with https.serving(company, tls=False) as proxy:
        settings = {"https_proxy": f"http://127.0.0.1:{proxy.port}", "PIP_CERT": str(company / "ca.pem")}
        assert refused(f"https://{https.HOST}/file", **settings) == "the server returned status 404"
        proxy.proxy_status = 407
        assert refused(f"https://{https.HOST}/file").startswith(
            "the proxy does not answer or refuses: correct https_proxy"
        )
    assert refused(f"https://{https.HOST}/file").startswith("the proxy does not answer or refuses")


# ---- apt


@pytest.mark.parametrize(("output", "message"), [
    (
        "W: Failed to fetch http://deb.example.org/debian/InRelease  Could not resolve 'deb.example.org'\n"
        "E: Unable to locate package such\n",
        "Failed to fetch http://deb.example.org/debian/InRelease  Could not resolve 'deb.example.org': check this "
        "machine's network, and the proxy of apt (Acquire::http::Proxy)",
    ),
    ("E: Unable to locate package such\nE: more\n", "Unable to locate package such: correct apt's sources, or see it "),
    ("E: Failed to fetch http://x/y.deb  404  Not Found\nE: more\n", "Failed to fetch http://x/y.deb  404  Not Found"),
    ("", "no reason given: correct apt's sources"),
])  # fmt: skip
def test_a_failure_of_apt_is_one_line(tmp_path, output, message):
    programs = {"apt-get": f"cat <<'END'\n{output}END\nexit 100", "id": "echo 0", "flock": 'shift; exec "$@"'}
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    ran = subprocess.run(
        ["sh", TOP / "scripts/apt.sh", "such"], capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert ran.returncode == 1
    notice, line = ran.stderr.splitlines()
    assert notice == "installing with apt: such"
    assert line.startswith(f"make: apt-get cannot install such: {message}")


# ---- users


@pytest.fixture
def checkout_of_root(tmp_path):
    """A folder with the scripts, in which salt-call reports that the image has to be built."""
    for folder in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    (tmp_path / "scripts").mkdir()
    for file in (TOP / "scripts").glob("*.sh"):
        shutil.copy(file, tmp_path / "scripts")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/salt-call").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / ".venv/bin/salt-call").chmod(0o755)
    return tmp_path


def as_nobody(*words, cwd):
    if os.geteuid() == 0:
        words = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words)
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_who_is_not_root_reads_how_to_build(checkout_of_root):
    ran = as_nobody("sh", "scripts/image.sh", "debian-13", "0", cwd=checkout_of_root)
    assert ran.returncode == 1
    assert one_line(ran.stderr) == ("make image: building an image needs root: run `sudo make image TARGET=debian-13`")


def test_who_may_not_install_packages_reads_which_are_missing(checkout_of_root):
    ran = as_nobody("sh", "scripts/apt.sh", "surely-no-such-package", cwd=checkout_of_root)
    assert ran.returncode == 1
    assert one_line(ran.stderr) == ("make: missing packages: surely-no-such-package: install them, or run make as root")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize(("own", "command", "of_root"), [
    ([], "sh scripts/venv.sh .venv", "."),
    (["."], "sh scripts/venv.sh .venv", ".venv"),
    (["."], "sh scripts/docs.sh build/docs", "build/docs"),
    ([".", "build"], "sh scripts/docs.sh build/docs", "build/docs/venv"),
    (["."], "make clean", "build"),
])  # fmt: skip
def test_a_folder_of_another_user_is_named_before_anything_is_removed(checkout_of_root, own, command, of_root):
    (checkout_of_root / "build/docs/venv/lib").mkdir(parents=True)
    shutil.copy(TOP / "Makefile", checkout_of_root)
    if of_root == "build/docs/venv":
        own = [*own, "build/docs"]
    for name in own:
        os.chown(checkout_of_root / name, NOBODY, NOBODY)
    ran = as_nobody(*command.split(), cwd=checkout_of_root)
    assert ran.returncode
    path = (checkout_of_root / of_root).resolve()
    assert one_line(ran.stderr) == (
        f"make: {path} belongs to root: run make as root, remove it, or use a clone of your own"
    )
    assert (checkout_of_root / "build/docs/venv/lib").is_dir()
    assert (checkout_of_root / ".venv/bin/salt-call").is_file()


# ---- no git


@pytest.mark.parametrize("goal", ["lint", "docs-reference", "help"])
def test_no_goal_of_make_needs_git(goal):
    """A checkout may be a downloaded archive, on a machine without git."""
    ran = subprocess.run(["make", "--dry-run", goal], cwd=TOP, capture_output=True, text=True, check=True)
    assert " git " not in ran.stdout
    assert '"git"' not in (TOP / "scripts/reference.py").read_text()


def test_the_static_checks_cover_every_script_and_state():
    ran = subprocess.run(["make", "--dry-run", "lint"], cwd=TOP, capture_output=True, text=True, check=True)
    finds = [part.partition(")")[0] for part in ran.stdout.split("$(")[1:] if part.startswith("find ")]
    listed = set()
    for command in finds:
        listed |= set(subprocess.check_output(command, shell=True, cwd=TOP, text=True).split())
    names = {str(file.relative_to(TOP)) for file in checkout.sources(TOP)} - {"pillar/local.sls"}
    assert {name for name in names if name.endswith((".sh", ".sls"))} <= listed
