"""The generated pages are complete, are derived from the code, and fail `make lint` if they are stale."""

import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path

import pytest

from vault_cube.bench.fields import Gpu, Summed
from vault_cube.bench.judge import result
from vault_cube.gpu import health
from vault_cube.image import preflight
from vault_cube.image.attest.manifest import Manifest
from vault_cube.image.guest import cases
from vault_cube.image.workspace import LAYERS
from vault_cube.settings import Settings
from vault_cube.settings.schema import keys
from vault_cube.verdicts import Verdict

TOP = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def reference():
    sys.path.append(str(TOP / "scripts"))  # reference.py imports reference_code.py
    spec = importlib.util.spec_from_file_location("reference", TOP / "scripts/reference.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module  # dataclasses look up their module here
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(reference):
    """The generated pages: path → text."""
    return dict(reference.pages())


@pytest.fixture(scope="module")
def rows(pages):
    """The table of the pillar page, as a mapping from each key to its cells."""
    lines = [line for line in pages["docs/pillar.md"].splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({row[0] for row in cells}) == len(cells), "a key has two rows"
    return {row[0].strip("`"): row[1:] for row in cells}


def test_every_key_has_a_row_with_type_and_description(rows):
    expected = {key.name for key in keys(Settings) if len(key.path) > 1}
    assert expected == set(rows)
    for name, (kind, _, _, _, description, readers) in rows.items():
        assert kind, name
        assert description[0].isupper() or description.split()[0] in ("apt", "ext4's", "sysctl"), name
        assert readers or kind.startswith(("section", "list of section", "mapping")), name


def test_a_number_whose_name_ends_in_a_unit_has_that_unit(rows):
    units = {name: row[1] for name, row in rows.items()}
    assert units["base:fail2ban:within_s"] == "s"
    assert units["image:disk:esp_mib"] == "MiB"
    assert units["gpu:health:celsius:fan"] == "°C"
    assert units["validation:monitoring:alerts:gpu_power:above"] == "W"
    assert units["validation:monitoring:alerts:gpu_memory:above"] == "share"
    assert units["benchmark:ceilings:<n>:memory_gb_s"] == "GB/s"
    assert units["base:ssh:port"] == ""


@pytest.mark.parametrize(
    ("key", "reader"),
    [
        ("base:ssh:port", "salt/base/ssh.sls"),
        ("base:users:<name>:ssh_keys", "salt/base/users.sls"),
        ("driver:power:limit_w", "salt/driver/power.sls"),
        ("gpu:answer_s", "_beacons/gpu.py"),
        ("gpu:answer_s", "salt/validation/files/readings.service"),
        ("image:disk:esp_mib", "vault_cube/image/disk/raw_disk.py"),
        ("driver:cuda:toolkit", "schema only"),
    ],
)
def test_the_readers_of_a_key_include_the_file_that_uses_it(rows, key, reader):
    # compare only the name: the file may have moved to another folder
    assert any(name.endswith(Path(reader).name) for name in re.findall(r"`([^`]+)`", rows[key][5])), rows[key][5]


def test_limits_come_from_the_schema_and_defaults_from_the_pillar(rows):
    assert rows["base:ssh:max_auth_tries"][2:4] == ["1 ≤ x ≤ 6", "`3`"]
    assert rows["gpu:answer_s"][2:4] == ["0 < x", "`5`"]
    assert rows["target:glibc"][2:4] == ["`^2\\.\\d+$`", "per target"]
    assert "differs in" in rows["base:packages"][3]


def test_every_function_is_on_the_command_page_with_its_example(pages):
    page = pages["docs/commands.md"]
    for file in sorted((TOP / "_modules").glob("*.py")):
        for function in re.findall(r"^def ([a-z]\w*)\(", file.read_text(), re.M):
            name = f"{file.stem}.{function.rstrip('_')}"
            section = re.search(rf"^### {re.escape(name)}\n(.*?)(?=^##|\Z)", page, re.M | re.S)
            assert section, name
            assert re.search(rf"^```bash\n(?:.*\n)*?.*salt-call .*{re.escape(name)}", section[1], re.M), name


def test_every_check_is_on_the_page_of_checks(pages):
    page = pages["docs/reference/checks.md"]
    boxes = [importlib.import_module(f"vault_cube.box.{layer}") for layer in LAYERS]
    modules = (preflight, cases, *boxes, health.box, health.storage, health.links, health.heat, health.use)
    for module in modules:
        for check in module.CHECKS:
            assert f"| {check.__name__.replace('_', ' ')} | " in page, f"{module.__name__}.{check.__name__}"
    # each check describes itself
    assert not re.search(r"^\|[^|]*\| *\|$", page, re.MULTILINE)


def test_every_grain_and_state_is_on_its_page(pages):
    for name in ("gpu", "gpu_benchmark", "gpu_health"):
        assert f"\n## {name}\n" in pages["docs/reference/grains.md"]
    for file in sorted((TOP / "_states").glob("*.py")):
        for function in re.findall(r"^def ([a-z]\w*)\(", file.read_text(), re.M):
            assert f"\n### {file.stem}.{function}\n" in pages["docs/reference/states.md"]


def test_every_field_of_a_benchmark_result_is_on_the_page_of_results(pages):
    page = pages["docs/reference/results.md"]
    for model in (result.Result, result.Machine, result.Suite, result.Metric, result.Check):
        section = page.partition(f"\n### {model.__name__}\n")[2].partition("\n### ")[0]
        assert set(re.findall(r"^\| `(\w+)`", section, re.M)) == set(model.model_fields)
    for field, fields in (("gpus", Gpu), ("sensors", Summed)):
        row = re.search(rf"^\| `{field}` \|(.*?)\|", page, re.M)
        assert re.findall(r"`(\w+)`", row[1]) == list(fields.__annotations__)


def test_every_key_of_a_manifest_and_of_a_verdict_is_on_the_page_of_results(pages):
    page = pages["docs/reference/results.md"]
    for heading, fields in (("Manifest of an image", Manifest.__annotations__), ("Verdicts", Verdict.__annotations__)):
        section = re.split(rf"^## {heading}.*$", page, flags=re.M)[1].partition("\n## ")[0]
        assert set(re.findall(r"^\| `(\w+)`", section, re.M)) == set(fields)


def test_every_runbook_is_in_the_index(pages):
    for file in (TOP / "docs/runbooks").glob("*.md"):
        assert f"(../runbooks/{file.name})" in pages["docs/how-to/alerts.md"]


def test_a_docstring_is_converted_to_markdown(reference):
    docstring = """
        Do it.

        name
            a name that
            takes two lines
        other, sha256
            ``code``

        Returns a table.

        CLI Example:

        .. code-block:: bash

            salt-call do.it

        The end.
    """
    assert reference._markdown(inspect.cleandoc(docstring)) == (
        "Do it.\n\n* `name`: a name that\n  takes two lines\n* `other`, `sha256`: `code`\n\nReturns a table.\n\n"
        "CLI Example:\n\n"
        "```bash\nsalt-call do.it\n```\n\nThe end."
    )


def test_a_stale_page_is_reported_by_check_and_rewritten_otherwise(reference, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference, "TOP", tmp_path)
    monkeypatch.setattr(reference, "pages", lambda: [("docs/pillar.md", "new\n"), ("docs/commands.md", "same\n")])
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/pillar.md").write_text("old\n")
    (tmp_path / "docs/commands.md").write_text("same\n")
    assert reference.main(["--check"]) == 1
    assert capsys.readouterr().err == "docs/pillar.md: stale: run `make docs-reference`\n"
    assert (tmp_path / "docs/pillar.md").read_text() == "old\n"
    assert reference.main([]) == 0
    assert (tmp_path / "docs/pillar.md").read_text() == "new\n"
    assert reference.main(["--check"]) == 0


def test_the_committed_pages_are_not_stale(pages):
    assert [name for name, text in pages.items() if (TOP / name).read_text() != text] == []
