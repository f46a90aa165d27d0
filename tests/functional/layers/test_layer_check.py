"""layer.check through Salt's own loader: a layer's saltcheck files, and what is said of those that cannot run."""

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
it holds {{ pillar.layer.name }}:
  module_and_function: file.search
  args: [/etc/passwd, '^root:']
  assertion: assertFalse
it is not asked in a tree:
  module_and_function: file.file_exists
  args: [/nowhere]
  assertion: assertTrue
  skip: True
what is not there is asked for:
  module_and_function: file.search
  args: [/nowhere, x]
  assertion: assertTrue
"""


@pytest.fixture
def checked(tmp_path):
    """checked(text) is what layer.check says of a layer with that saltcheck file: verdicts, status."""
    (tmp_path / "salt/runtime/saltcheck-tests").mkdir(parents=True)
    (tmp_path / "pillar").mkdir()
    (tmp_path / "pillar/top.sls").write_text("base: {'*': [box]}\n")
    (tmp_path / "pillar/box.sls").write_text("layer: {name: root}\nruntime: {provider: none}\n")
    config = {
        "id": "test", "root_dir": str(tmp_path / "root"), "file_client": "local",
        "file_roots": {"base": [str(tmp_path / "salt")]}, "pillar_roots": {"base": [str(tmp_path / "pillar")]},
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
        cases = json.loads(done.stdout)["local"]["cases"]
        return {case["case"]: (case["status"], case["evidence"]) for case in cases}, done.returncode

    return run


def test_each_case_has_its_verdict_and_its_pillar(checked):
    found, status = checked(CASES)
    assert found["the file is there"] == ("passed", "")
    assert found["it holds root"] == ("failed", "Fail: True not False")
    assert found["it is not asked in a tree"] == ("not applicable here", "needs a running system")
    assert found["what is not there is asked for"] == ("failed", "File not found: /nowhere")
    assert status != 0


def test_a_file_that_does_not_render_is_named(checked):
    found, status = checked("{{ pillar.layer.nothing.at.all }}\n")
    assert found["saltcheck"][0] == "failed"
    assert "init.tst does not render: " in found["saltcheck"][1]
    assert status != 0
