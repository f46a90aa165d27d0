"""Reading and writing locks: an invalid lock is one line with file and line number, and any flipped bit is detected."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image.locks import locktext, pylock
from vault_cube.image.locks.aptlock import AptLock, Deb
from vault_cube.image.locks.pylock import Wheel

TOP = Path(__file__).parents[4]
LOCKS = [TOP / "locks/tools.lock", *sorted((TOP / "locks").glob("*/*.lock"))]
DEBS = (
    Deb("base", "zlib1g", "1:1.2.13-1", "amd64", "bookworm", "debian", 86, "a" * 64, "pool/z/zlib1g_1.2.13-1.deb"),
    Deb("root", "apt", "2.6.1", "amd64", "bookworm-security", "debian-security", 7, "b" * 64, "pool/a/apt_2.6.1.deb"),
)  # fmt: skip
WHEELS = [
    Wheel("a-b", "1.0", "c" * 64, "a_b-1.0-py3-none-any.whl", 7),
    Wheel("z", "2+cpu", "d" * 64, "z-2+cpu.tar.gz", 86),
]


def read(file):
    return pylock.read(file) if file.name.startswith("python-") else AptLock.read(file)


@pytest.fixture
def apt(tmp_path):
    file = tmp_path / "apt.lock"
    file.write_text(AptLock(1_700_000_000, DEBS).text())
    return file


@pytest.fixture
def python(tmp_path):
    file = tmp_path / "python-a.lock"
    file.write_text(pylock.text(WHEELS))
    return file


def refused(file):
    """Return the error message, which must be one line that begins with the file."""
    with pytest.raises(VaultCubeError) as caught:
        read(file)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}: ")
    return message


def test_a_written_lock_can_be_read(apt, python):
    lock = AptLock.read(apt)
    assert (lock.epoch, lock.debs) == (1_700_000_000, tuple(sorted(DEBS)))
    assert lock.date == "20231114T221320Z"
    assert pylock.read(python) == WHEELS


def test_the_file_name_of_a_deb_is_that_of_apt():
    assert DEBS[0].filename == "zlib1g_1%3a1.2.13-1_amd64.deb"


@pytest.mark.parametrize("file", LOCKS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_the_committed_locks_can_be_read(file):
    assert read(file)


def test_a_python_lock_without_sizes_is_refused_with_the_remedy(python):
    """Such a lock has the older format, before sizes were added."""
    lines = [line.rpartition(" ")[0] + "\n" for line in python.read_text().splitlines()[:-1]]
    python.write_text(locktext.closed("".join(lines)))
    assert refused(python).endswith("restore the file, or run `make lock`")


def test_pip_reads_a_python_lock(tmp_path, python):
    """pip treats the name and size of the file as a comment."""
    ran = subprocess.run(
        [sys.executable, "-c", "import sys\n"
         "from pip._internal.network.session import PipSession\n"
         "from pip._internal.req.req_file import parse_requirements\n"
         "for r in parse_requirements(sys.argv[1], PipSession()): print(r.requirement, r.options)", python],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [line.split()[0] for line in ran.stdout.splitlines()] == ["a-b==1.0", "z==2+cpu"]
    assert "c" * 64 in ran.stdout


def test_the_committed_locks_contain_no_host_names():
    for file in LOCKS:
        assert "://" not in file.read_text(), file


@pytest.mark.parametrize("make", ["python", "apt"])
def test_a_missing_lock(tmp_path, make):
    file = tmp_path / ("python-a.lock" if make == "python" else "apt.lock")
    assert "make lock" in refused(file)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("# vault-cube apt.lock 1", "# vault-cube apt.lock 2", 1),
        ("# epoch 1700000000", "# epoch soon", 1),
        ("a" * 64, "a" * 63, 4),
        (" 86 ", " many ", 4),
        ("root apt 2.6.1 amd64", "root apt amd64", 5),
        ("root apt", "", 5),
        ("root apt", "<<<<<<< HEAD\nroot apt", 5),
    ],
)
def test_an_invalid_line_of_an_apt_lock(apt, old, new, line):
    apt.write_text(apt.read_text().replace(old, new))
    assert f"line {line}: " in refused(apt)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("z==2+cpu", "z>=2", 2),
        ("c" * 64, "c" * 65, 1),
        ("  # a_b", " a_b", 1),
        (".whl 7", ".whl", 1),
        (".whl 7", ".whl many", 1),
        (".whl 7", ".whl -7", 1),
        (".tar.gz 86", ".tar.gz", 2),
        ("a-b==", "../a==", 1),
        ("z==", "\nz==", 2),
    ],
)
def test_an_invalid_line_of_a_python_lock(python, old, new, line):
    python.write_text(python.read_text().replace(old, new))
    assert f"line {line}: " in refused(python)


@pytest.mark.parametrize("make", ["python", "apt"])
def test_a_truncated_lock(make, request):
    file = request.getfixturevalue(make)
    lines = file.read_text().splitlines(keepends=True)
    for end in (len(lines) - 1, len(lines) - 2):
        file.write_text("".join(lines[:end]))
        refused(file)
    file.write_text("")
    refused(file)


@pytest.mark.parametrize("make", ["python", "apt"])
def test_a_lock_that_was_edited_by_hand(make, request):
    file = request.getfixturevalue(make)
    file.write_text(file.read_text().replace("1.0", "1.1").replace("2.6.1", "2.6.2"))
    assert "damaged, or edited by hand" in refused(file)


@pytest.mark.parametrize("make", ["python", "apt"])
def test_any_flipped_bit_is_detected(make, request):
    file = request.getfixturevalue(make)
    intact = file.read_bytes()
    for position in range(len(intact)):
        flipped = bytearray(intact)
        flipped[position] ^= 1 << random.Random(position).randrange(8)
        file.write_bytes(flipped)
        refused(file)


def test_the_last_line_is_the_sha256_of_the_lines_above(tmp_path):
    file = tmp_path / "x.lock"
    locktext.verify(file, locktext.closed("a\nb\n"))
    locktext.verify(file, locktext.closed(""))
    for text in ("a\nb\n", locktext.closed("a\n") + "b\n", "b\n" + locktext.closed("a\n"), locktext.closed("a\n")[:-1]):
        with pytest.raises(VaultCubeError):
            locktext.verify(file, text)
