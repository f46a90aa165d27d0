"""fleet-pepper: exit codes, and servers that it refuses to send a password to."""

import contextlib
import http.server
import importlib
import os
import pty
import select
import signal
import socket
import socketserver
import subprocess
import sys
import termios
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import quote, unquote

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.fleet import pepper

pepper.provide_pkg_resources()
PepperException = importlib.import_module("pepper.exceptions").PepperException
if not hasattr(sys.modules["pkg_resources"], "fixup_namespace_packages"):
    del sys.modules["pkg_resources"]  # a stand-in, which pytest would take for that of setuptools
OK, FAULT = {"ret": True, "retcode": 0}, {"ret": {}, "retcode": 2}


def runner(ret, success=True):
    return {"tag": "salt/run/1", "data": {"return": ret, "success": success}}


@pytest.mark.parametrize(
    ("returned", "code"),
    [
        ([{"b1": OK, "b2": OK}], 0),
        ([{"b1": OK, "b2": FAULT}], 2),
        ([{"b1": {"ret": "refused", "retcode": 13}, "b2": FAULT}], 13),
        ([{"b1": OK, "b2": False}], 1),
        ([{"b1": OK, "b2": "Minion did not return. [No response]"}], 1),
        ([{}], 2),
        ([], 2),
        ([{"b1": OK}, {}], 2),
        ([{"b1": {"ret": "", "retcode": -9}}], 255),
        ([{"b1": {"ret": "", "retcode": 256}}], 255),
        ([{"b1": {"ret": "", "retcode": True}}], 1),
        ([{"jid": "2026", "minions": ["b1"]}], 0),
        ([{"jid": "2026", "minions": []}], 2),
        ([{"jid": "2026", "tag": "salt/run/2026"}], 0),
        ([runner(["b1"])], 0),
        ([runner({"retcode": 3})], 3),
        ([runner("no such release", success=False)], 1),
        ([runner(None, success=None)], 1),
        ([["b1", "b2"]], 0),
    ],
)
def test_exit_codes(returned, code):
    assert pepper.exit_code(returned) == code


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        ({}, ["-k", "*", "test.ping"], "ignore-ssl-errors"),
        ({}, ["--ignore-ssl-errors"], "ignore-ssl-errors"),
        ({"SALTAPI_URL": "http://fleet.example:8000"}, [], "https"),
        ({}, ["-u", "http://fleet.example"], "https"),
        ({}, ["--saltapi-url=HTTP://fleet.example"], "https"),
        ({}, ["-uhttp://fleet.example"], "https"),
    ],
)
def test_a_password_is_not_sent_in_clear_or_to_anybody(tmp_path, environment, arguments, message):
    with pytest.raises(VaultCubeError, match=message):
        pepper.checked({"PEPPERRC": str(tmp_path / "none"), **environment}, arguments)


def pepperrc(folder, **values):
    lines = [f"{name} = {value}" for name, value in values.items()]
    (folder / "pepperrc").write_text("\n".join(["[main]", *lines, "[lab]", "SALTAPI_URL = http://lab.example", ""]))
    return {"PEPPERRC": str(folder / "pepperrc")}


def test_the_authority_is_in_pepperrc(tmp_path):
    certificate = tmp_path / "ca.crt"
    certificate.write_text("-----BEGIN CERTIFICATE-----\n")
    environment = pepperrc(tmp_path, SALTAPI_CA=certificate, SALTAPI_URL="https://fleet.example:8443")
    pepper.checked(environment, [])
    assert pepper.authority(environment, []) == str(certificate)


def test_without_an_authority_the_system_s_are_used(tmp_path):
    assert pepper.authority({"PEPPERRC": str(tmp_path / "none")}, []) is None


def test_another_profile_is_checked_too(tmp_path):
    environment = pepperrc(tmp_path, SALTAPI_URL="https://fleet.example:8443")
    with pytest.raises(VaultCubeError, match="lab"):
        pepper.checked(environment, ["-p", "lab", "*", "test.ping"])


@pytest.mark.parametrize(
    ("text", "message"), [(None, "cannot read it"), ("hello", "no certificate"), (b"\xff\xfe", "cannot read it")]
)
def test_a_file_that_is_no_authority(tmp_path, text, message):
    file = tmp_path / "ca.crt"
    if text:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(VaultCubeError, match=message):
        pepper.authority({"SALTAPI_CA": str(file)}, [])


def test_a_broken_pepperrc_is_one_line(tmp_path):
    (tmp_path / "pepperrc").write_text("SALTAPI_URL = x\n")
    with pytest.raises(VaultCubeError, match="cannot read it") as caught:
        pepper.checked({"PEPPERRC": str(tmp_path / "pepperrc")}, [])
    assert "\n" not in str(caught.value)


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers each request with the status and the text that its path names."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, text = self.path.strip("/").split("/", 1)
        self.send_response(int(status))
        self.end_headers()
        self.wfile.write(unquote(text).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def refusing():
    # HTTPServer would look its own name up
    with socketserver.TCPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "text", "shown"),
    [
        (400, '{"return": "not understood"}', "400: not understood"),
        (413, '{"return": "refused:\\n too large"}', "413: refused: too large"),
        (429, '{"return": "refused"}', "429: refused"),
        (503, '{"return": "the master does not answer"}', "503: the master does not answer"),
        (502, "<html>Bad gateway</html>", "502: Bad Gateway"),
        (404, "x", "404: x"),
        (405, "[1]", "405: [1]"),
    ],
)
def test_a_refusal_is_one_line(refusing, status, text, shown):
    request = urllib.request.Request(f"{refusing}/{status}/{quote(text)}", b"x")
    with pytest.raises(PepperException) as caught:
        pepper.opened(request)
    assert str(caught.value).endswith(shown)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [401, 500])
def test_pepper_has_lines_of_its_own(refusing, status):
    with pytest.raises(urllib.error.HTTPError):
        pepper.opened(urllib.request.Request(f"{refusing}/{status}/x", b"x"))


def test_a_server_that_is_not_there_is_one_line():
    with pytest.raises(PepperException, match="Connection refused"):
        pepper.opened(urllib.request.Request("http://127.0.0.1:1/", b"x"))


@pytest.fixture
def waiting(tmp_path):
    """waiting(LISTENER): fleet-pepper, connected to a server, and the connection, on which nothing was sent."""
    with contextlib.ExitStack() as stack:

        def started(listener):
            words = [sys.executable, "-m", "vault_cube.fleet.pepper", "*", "test.ping"]
            environment = {"SALTAPI_URL": f"https://127.0.0.1:{listener.getsockname()[1]}", "SALTAPI_EAUTH": "pam"}
            environment |= {"SALTAPI_USER": "x", "SALTAPI_PASS": "x", "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
            ran = stack.enter_context(subprocess.Popen(words, env=environment, stdout=subprocess.PIPE))
            stack.callback(ran.kill)
            listener.settimeout(60)
            return ran, stack.enter_context(listener.accept()[0])

        yield started


@pytest.mark.parametrize("delay", [0, 1e-6, 1e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.01, 0.5])
def test_ctrl_c_is_no_success(waiting, delay):
    """pepper ends with 0. The shell shows 130; a signal that comes just before a read must not be lost."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ran, _ = waiting(silent)
        time.sleep(delay)
        ran.send_signal(signal.SIGINT)
        assert ran.wait(timeout=60) == -signal.SIGINT


def test_ctrl_c_in_an_answer_that_does_not_end(waiting):
    """The client has read the start of the answer, which is TLS's, and waits for its rest."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ran, connection = waiting(silent)
        assert connection.recv(5)
        connection.sendall(b"\x16\x03\x03")
        ran.send_signal(signal.SIGINT)
        assert ran.wait(timeout=60) == -signal.SIGINT


def test_ctrl_c_at_the_password_prompt_leaves_the_terminal_as_it_was(tmp_path):
    terminal, other_end = pty.openpty()
    before = termios.tcgetattr(other_end)
    words = [sys.executable, "-m", "vault_cube.fleet.pepper", "-u", "https://127.0.0.1:1", "-a", "pam"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    words += ["--username", "x", "*", "test.ping"]
    files = dict.fromkeys(["stdin", "stdout", "stderr"], other_end)
    with subprocess.Popen(words, env=environment, start_new_session=True, **files) as ran:
        try:
            shown = b""
            while b"Password:" not in shown:
                assert select.select([terminal], [], [], 60)[0], shown
                shown += os.read(terminal, 1000)
            ran.send_signal(signal.SIGINT)
            assert ran.wait(timeout=60) == 130
        finally:
            ran.kill()
    assert termios.tcgetattr(other_end) == before
    os.close(terminal)
    os.close(other_end)
