"""layer.check validation, what concerns monitoring, against a node exporter that answers as told."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from vault_cube import box, verdicts
from vault_cube.box import validation

MTIME = 'node_textfile_mtime_seconds{{file="/var/lib/prometheus/node-exporter/vault-cube-{}.prom"}} {}\n'


@pytest.fixture
def exporter():
    """An HTTP server; `exporter.said` is what it answers."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(server.said.encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    server.said = ""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def found(pillar, tmp_path):
    """found(target, port, live) is the verdicts by case."""
    (tmp_path / "dashboards").mkdir()
    for name in ("alerts.yml", "prometheus.yml"):
        (tmp_path / name).touch()

    def ask(target, port, live=True):
        changed = pillar(target, {"validation": {"monitoring": {"port": port, "files": str(tmp_path)}}})
        return {one.case: one for one in validation.monitoring(box.Place(changed, live))}

    return ask


def test_fresh_readings_pass(exporter, found):
    now = time.time()
    exporter.said = "# HELP x y\n" + MTIME.format("gpus", f"{now - 5:.9e}") + MTIME.format("disks", f"{now - 800:.9e}")
    said = found("ubuntu-24.04", exporter.server_port)
    assert {one.status for one in said.values()} == {verdicts.PASSED}
    assert set(said) == {"alerts and boards", "readings of disks", "readings of gpus"}


def test_old_readings_fail(exporter, found):
    exporter.said = MTIME.format("gpus", time.time() - 300)
    said = found("ubuntu-24.04", exporter.server_port)
    assert said["readings of gpus"].status == verdicts.FAILED
    assert "300 s old" in said["readings of gpus"].evidence
    assert said["readings of disks"].evidence == "the node exporter has none"


def test_an_exporter_that_is_down_fails(found):
    said = found("debian-12", 9)
    assert said["readings of disks"].status == verdicts.FAILED
    assert said["readings of disks"].evidence.startswith("the node exporter does not answer at 127.0.0.1:9: ")
    assert "readings of gpus" not in said


def test_in_a_tree_only_the_files_count(found):
    said = found("debian-12", 9, live=False)
    assert said["alerts and boards"].status == verdicts.PASSED
    assert said["readings of disks"].status == verdicts.NOT_APPLICABLE


def test_missing_rules_fail(pillar, tmp_path):
    changed = pillar("debian-12", {"validation": {"monitoring": {"files": str(tmp_path)}}})
    said = next(iter(validation.monitoring(box.Place(changed, False))))
    assert (said.status, said.evidence) == (verdicts.FAILED, "missing: alerts.yml, prometheus.yml, dashboards")
