"""layer.check through Salt's loader: verdicts of a layer's saltcheck files, and errors for files that do not render."""

import json

import pytest
from copied import minion, salt_call

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
    minion(tmp_path, states=tmp_path / "salt")

    def run(text):
        (tmp_path / "salt/runtime/saltcheck-tests/init.tst").write_text(text)
        done = salt_call(tmp_path, "--log-level=quiet", "--out=json", "layer.check", "runtime")
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
