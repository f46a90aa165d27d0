"""The monitoring checks of layer.check validation, against a node exporter whose answer each test sets."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from vault_cube import box, verdicts
from vault_cube.box import validation

MTIME = 'node_textfile_mtime_seconds{{file="/var/lib/prometheus/node-exporter/vault-cube-{}.prom"}} {}\n'


@pytest.fixture
def exporter():
    """An HTTP server whose answer is `exporter.body`."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(server.body.encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    server.body = ""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def verdicts_of(pillar, tmp_path):
    """verdicts_of(target, port, live) returns the verdicts by case."""
    (tmp_path / "dashboards").mkdir()
    for name in ("alerts.yml", "prometheus.yml"):
        (tmp_path / name).touch()

    def check(target, port, live=True):
        changed = pillar(target, {"validation": {"monitoring": {"port": port, "files": str(tmp_path)}}})
        return {each.case: each for each in validation.monitoring(box.Place(changed, live))}

    return check


def test_fresh_readings_pass(exporter, verdicts_of):
    now = time.time()
    exporter.body = "# HELP x y\n" + MTIME.format("gpus", f"{now - 5:.9e}") + MTIME.format("disks", f"{now - 800:.9e}")
    by_case = verdicts_of("ubuntu-24.04", exporter.server_port)
    assert {each.status for each in by_case.values()} == {verdicts.PASSED}
    assert set(by_case) == {"alerts and boards", "readings of disks", "readings of gpus"}


def test_old_readings_fail(exporter, verdicts_of):
    exporter.body = MTIME.format("gpus", time.time() - 300)
    by_case = verdicts_of("ubuntu-24.04", exporter.server_port)
    assert by_case["readings of gpus"].status == verdicts.FAILED
    assert "300 s old" in by_case["readings of gpus"].evidence
    assert by_case["readings of disks"].evidence == "the node exporter has none"


def test_an_exporter_that_is_down_fails(verdicts_of):
    by_case = verdicts_of("debian-12", 9)
    assert by_case["readings of disks"].status == verdicts.FAILED
    assert by_case["readings of disks"].evidence.startswith("the node exporter does not answer at 127.0.0.1:9: ")
    assert "readings of gpus" not in by_case


def test_in_a_tree_only_the_files_are_checked(verdicts_of):
    by_case = verdicts_of("debian-12", 9, live=False)
    assert by_case["alerts and boards"].status == verdicts.PASSED
    assert by_case["readings of disks"].status == verdicts.NOT_APPLICABLE


def test_missing_rules_fail(pillar, tmp_path):
    changed = pillar("debian-12", {"validation": {"monitoring": {"files": str(tmp_path)}}})
    verdict = next(iter(validation.monitoring(box.Place(changed, False))))
    assert (verdict.status, verdict.evidence) == (verdicts.FAILED, "missing: alerts.yml, prometheus.yml, dashboards")
