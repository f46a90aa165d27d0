"""The fixed paths on a box are the same in Python, in states and in the program that applies them."""

from pathlib import Path

import jinja2

from vault_cube import paths

TOP = Path(__file__).parents[2]


def test_states_and_python_name_the_same_paths():
    source = (TOP / "salt/base/paths.jinja").read_text()
    module = jinja2.Environment(autoescape=True).from_string(source).module
    assert (module.checkout, module.salt_environment) == (paths.CHECKOUT, paths.SALT)


def test_the_program_that_applies_layers_uses_them():
    program = (TOP / "packer/apply.sh").read_text()
    assert f"\nCHECKOUT=${{CHECKOUT:-{paths.CHECKOUT}}}\nsalt=${{SALT:-{paths.SALT}}}\n" in program


def test_no_state_writes_a_fixed_path_itself():
    literal = [
        str(file.relative_to(TOP))
        for file in (TOP / "salt").rglob("*")
        if file.is_file() and file.suffix in (".sls", ".service", ".yml", ".jinja", ".timer")
        if any(path in file.read_text() for path in (paths.CHECKOUT, paths.SALT))
    ]
    assert literal == ["salt/base/paths.jinja"]
