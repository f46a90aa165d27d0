"""layer.check through Salt's loader: verdicts of a layer's saltcheck files, and errors for files that do not render."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
SALT_CALL = Path(sys.executable).with_name("salt-call")
CASES = """\
the file is there:
  module_and_function: file.file_exists
  args: [/etc/passwd]
  assertion: assertTrue
it contains {{ pillar.target.name }}:
  module_and_function: file.search
  args: [/etc/passwd, '^root:']
  assertion: assertFalse
it cannot run in a tree:
  module_and_function: file.file_exists
  args: [/nowhere]
  assertion: assertTrue
  skip: True
the file does not exist:
  module_and_function: file.search
  args: [/nowhere, x]
  assertion: assertTrue
"""


@pytest.fixture
def checked(tmp_path):
    """checked(text) runs layer.check on a layer with that saltcheck file. Returns (verdicts by check, exit status)."""
    (tmp_path / "salt/runtime/saltcheck-tests").mkdir(parents=True)
    config = {
        "id": "test", "root_dir": str(tmp_path / "root"), "file_client": "local",
        "file_roots": {"base": [str(tmp_path / "salt")]}, "pillar_roots": {"base": [str(TOP / "pillar")]},
        "vault_cube": {"target": "debian-12"}, "pillar_source_merging_strategy": "recurse",
        "module_dirs": [str(TOP / "_modules")],
    }  # fmt: skip
    (tmp_path / "minion").write_text(json.dumps(config))

    def run(text):
        (tmp_path / "salt/runtime/saltcheck-tests/init.tst").write_text(text)
        call = [SALT_CALL, "--local", "-c", tmp_path, "--log-level=quiet", "--retcode-passthrough", "--out=json"]
        done = subprocess.run(
            [*call, "layer.check", "runtime"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        checks = json.loads(done.stdout)["local"]["checks"]
        return {check["check"]: (check["status"], check["evidence"]) for check in checks}, done.returncode

    return run


def test_each_case_is_rendered_with_the_pillar_and_has_a_verdict(checked):
    verdicts, status = checked(CASES)
    assert verdicts["the file is there"] == ("ok", "as declared")
    assert verdicts["it contains debian-12"] == ("fault", "Fail: True not False")
    assert verdicts["it cannot run in a tree"] == ("not applicable", "needs a running system")
    assert verdicts["the file does not exist"] == ("fault", "File not found: /nowhere")
    assert status != 0


def test_a_file_that_does_not_render_is_named(checked):
    verdicts, status = checked("{{ pillar.target.nothing.at.all }}\n")
    assert verdicts["saltcheck"][0] == "fault"
    assert "init.tst does not render: " in verdicts["saltcheck"][1]
    assert status != 0
