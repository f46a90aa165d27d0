"""The monitoring checks of layer.check validation, against a node exporter whose answer each test sets."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from vault_cube import verdicts
from vault_cube.box import Place, validation
from vault_cube.settings import check

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
    """verdicts_of(target, port, live) returns the verdicts by check."""
    (tmp_path / "dashboards").mkdir()
    for name in ("alerts.yml", "prometheus.yml"):
        (tmp_path / name).touch()

    def run(target, port, live=True):
        changed = pillar(target, {"validation": {"monitoring": {"port": port, "files": str(tmp_path)}}})
        checks = (validation.alerts_and_dashboards, validation.exported_readings)
        return {verdict.check: verdict for verdict in verdicts.run(checks, Place(check(changed), live))}

    return run


def test_fresh_readings_are_ok(exporter, verdicts_of):
    now = time.time()
    exporter.body = "# HELP x y\n" + MTIME.format("gpus", f"{now - 5:.9e}") + MTIME.format("disks", f"{now - 800:.9e}")
    by_check = verdicts_of("ubuntu-24.04", exporter.server_port)
    assert {verdict.status for verdict in by_check.values()} == {verdicts.OK}
    assert set(by_check) == {"alerts and dashboards", "readings of disks", "readings of gpus"}


def test_old_readings_are_a_fault(exporter, verdicts_of):
    exporter.body = MTIME.format("gpus", time.time() - 300)
    by_check = verdicts_of("ubuntu-24.04", exporter.server_port)
    assert by_check["readings of gpus"].status == verdicts.FAULT
    assert "300 s old" in by_check["readings of gpus"].evidence
    assert by_check["readings of disks"].evidence == "the node exporter has none"


def test_an_exporter_that_is_down_fails(verdicts_of):
    by_check = verdicts_of("debian-12", 9)
    assert by_check["readings of disks"].status == verdicts.FAULT
    assert by_check["readings of disks"].evidence.startswith("the node exporter does not answer at 127.0.0.1:9: ")
    assert "readings of gpus" not in by_check


def test_in_a_tree_only_the_files_are_checked(verdicts_of):
    by_check = verdicts_of("debian-12", 9, live=False)
    assert by_check["alerts and dashboards"].status == verdicts.OK
    assert by_check["exported readings"].status == verdicts.NOT_APPLICABLE


def test_missing_rules_fail(pillar, tmp_path):
    changed = pillar("debian-12", {"validation": {"monitoring": {"files": str(tmp_path)}}})
    verdict = validation.alerts_and_dashboards(Place(check(changed), False))
    assert (verdict.status, verdict.evidence) == (verdicts.FAULT, "missing: alerts.yml, prometheus.yml, dashboards")
