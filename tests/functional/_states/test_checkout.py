"""The box's copy of the checkout has the files that its target needs, and keeps its owner's pillar/local.sls."""

from pathlib import Path

import pytest


@pytest.fixture
def checkout(tmp_path):
    source = tmp_path / "source"
    for name in (
        "conf/common.conf", "salt/top.sls", "pillar/box.sls", "pillar/targets/one.sls", "pillar/targets/two.sls",
        "locks/one/python-a.lock", "locks/one/apt.lock", "locks/two/python-a.lock", "_states/unit.py",
        "_states/__pycache__/unit.cpython-311.pyc", "vault_cube/__init__.py", "workloads/ddp.py",
        "benchmarks/results/r.json", "docs/runbooks/A.md", "docs/architecture.md",
        "tests/test_it.py", "Saltfile", "pyproject.toml", "Makefile",
    ):  # fmt: skip
        file = source / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return {"name": str(tmp_path / "box"), "source": str(source), "target": "one"}


def files_of(checkout):
    top = Path(checkout["name"])
    return {str(file.relative_to(top)) for file in top.rglob("*") if file.is_file()}


def test_only_files_that_a_box_needs_are_copied(checkout, load_state):
    done = load_state("checkout").installed(**checkout)
    assert done["result"] is True
    assert files_of(checkout) == {
        "conf/common.conf", "salt/top.sls", "pillar/box.sls", "pillar/targets/one.sls", "locks/one/apt.lock",
        "locks/one/python-a.lock",
        "_states/unit.py", "vault_cube/__init__.py", "workloads/ddp.py", "docs/runbooks/A.md", "Saltfile",
        "pyproject.toml",
    }  # fmt: skip
    assert load_state("checkout").installed(**checkout)["changes"] == {}


def test_drift_is_reported_and_repaired_and_the_owner_s_file_is_kept(checkout, load_state):
    load_state("checkout").installed(**checkout)
    box = Path(checkout["name"])
    (box / "salt/top.sls").write_text("changed")
    (box / "_states/evil.py").write_text("")
    (box / "pillar/local.sls").write_text("mine")
    planned = load_state("checkout", test=True).installed(**checkout)
    assert (planned["result"], planned["changes"]) == (
        None,
        {"copied": ["salt/top.sls"], "removed": ["_states/evil.py"]},
    )
    assert load_state("checkout").installed(**checkout)["result"] is True
    assert (box / "salt/top.sls").read_text() == "salt/top.sls"
    assert not (box / "_states/evil.py").exists()
    assert (box / "pillar/local.sls").read_text() == "mine"


def test_a_target_that_is_included_is_copied_too(checkout, load_state):
    (Path(checkout["source"]) / "pillar/targets/one.sls").write_text("include:\n  - targets.two\n")
    load_state("checkout").installed(**checkout)
    assert "pillar/targets/two.sls" in files_of(checkout)


def test_on_the_box_itself_nothing_is_copied(checkout, load_state):
    own = {**checkout, "name": checkout["source"]}
    assert load_state("checkout").installed(**own)["changes"] == {}


def test_only_root_can_read_a_local_pillar(checkout, load_state):
    (Path(checkout["source"]) / "pillar/local.sls").write_text("x: y")
    load_state("checkout").installed(**checkout)
    assert (Path(checkout["name"]) / "pillar/local.sls").stat().st_mode & 0o777 == 0o600
