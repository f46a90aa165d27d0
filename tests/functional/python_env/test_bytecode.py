"""Byte code does not depend on other compiled files, on the number of processes, or on what they compiled before."""

import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from vault_cube.python_env import bytecode

# from a real package: constants that contain a string which another module has interned
WORDS = 'import sys\ndef f(x):\n    return x in {"linux", "android"}\ndef g(x):\n    return x in {"linux", "android"}\n'


@pytest.fixture
def package(tmp_path):
    """package(name) creates a small package in a new folder and returns the folder."""

    def make(name):
        top = tmp_path / name
        for folder in range(6):
            (top / f"p{folder}").mkdir(parents=True)
            for file in range(4):
                (top / f"p{folder}/m{file}.py").write_text(f"linux = {file}\nandroid = {folder}\n{WORDS}")
        (top / "p0/template.py").write_text("{{ no Python }}\n")
        return top

    return make


def run(top, workers):
    """Compile like the program, with a number of processes. Returns byte code by path, without the header (a time)."""
    call = [sys.executable, *bytecode.FLAGS, "-c"]
    call.append(
        f"import sys; sys.path.insert(0, {str(Path(bytecode.__file__).parent)!r})\n"
        "import bytecode, py_compile\n"
        f"bytecode.compile_all(bytecode.folders({str(top)!r}), py_compile.PycInvalidationMode.TIMESTAMP,"
        f" {str(top)!r}, {workers})"
    )
    subprocess.run(call, env=bytecode.ENVIRONMENT, check=True, capture_output=True)
    return {str(file.relative_to(top)): file.read_bytes()[16:] for file in top.rglob("*.pyc")}


def test_the_number_of_processes_changes_no_byte(package):
    one, three, many = run(package("one"), 1), run(package("three"), 3), run(package("many"), 40)
    assert len(one) == 24
    assert one == three == many


def test_a_folder_s_byte_code_does_not_depend_on_its_neighbours(package):
    whole, alone = package("whole"), package("alone")
    for folder in range(5):
        for file in (alone / f"p{folder}").iterdir():
            file.unlink()
    before = run(whole, 2)
    assert run(alone, 2) == {path: code for path, code in before.items() if path.startswith("p5/")}


def test_the_program_writes_valid_byte_code_and_skips_templates(package):
    top = package("box")
    call = [sys.executable, *bytecode.FLAGS, bytecode.__file__, "CHECKED_HASH", str(top), str(top)]
    subprocess.run(call, env=bytecode.ENVIRONMENT, check=True, capture_output=True)
    code = next((top / "p3/__pycache__").glob("m1.*.pyc")).read_bytes()
    assert int.from_bytes(code[4:8], "little") == 0b11  # checked hash of the source
    assert b"p3/m1.py" in code
    assert str(top).encode() not in code
    assert not list((top / "p0/__pycache__").glob("template.*"))


def test_existing_byte_code_is_not_compiled_again(package):
    top = package("box")
    file = py_compile.compile(str(top / "p1/m1.py"))
    before = Path(file).stat().st_mtime_ns
    run(top, 2)
    assert Path(file).stat().st_mtime_ns == before
