"""Put each fault of the audit of `ubuntu-24.04` back into a copy of this checkout: a test must fail and name it.

usage: put_back.py [FAULT ...]    prints a table; exit status 1 if a fault is not noticed

A1 to C11 are the audit's numbers. Each entry of FAULTS has the edits that bring the fault back, the test that must
fail, and a text that its output must hold.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
LOCKED = "tests/unit/image/locks/"
UNITS = "tests/functional/salt/test_units.py"
TARGET = "pillar/targets/ubuntu-24.04.sls"


@dataclass(frozen=True)
class Fault:
    """One fault of the audit."""

    what: str
    edits: tuple[tuple[str, str, str], ...]
    """(file, regular expression, replacement); each must match"""
    tests: str
    """a file of tests; by file, since tests are renamed more often than files"""
    names: str
    """regular expression that an assertion's or an error's line of a failing test must match"""
    after: Callable[[Path], None] | None = None
    """what else is to be done to the checkout"""


def sealed(checkout: Path) -> None:
    """Give a lock that was edited its last line again."""
    from vault_cube.image.locks import locktext

    file = checkout / "locks/ubuntu-24.04/python-vllm.lock"
    body = file.read_text().rpartition(locktext.MARK)[0]
    file.write_text(locktext.closed(body))


NVCC_OF_TODAY = tuple(
    ("locks/ubuntu-24.04/python-vllm.lock", rf"(?m)^{name}==13\.0\.88 ", f"{name}==13.5.37 ")
    for name in ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm")
)

FAULTS = {
    "A1": Fault(
        "nvtop is in multiverse, which the sources do not name",
        ((TARGET, r"(?s)(validation:.*packages: \[htop)", r"\1, nvtop"),),
        LOCKED + "test_contract.py",
        r"nvtop \(validation:packages\): is in component multiverse",
    ),
    "A2": Fault(
        "the keyring of Ubuntu is expected on the builder",
        (("pillar/box.sls", r"    /usr/share/keyrings/ubuntu-archive-keyring.gpg:\n      - F6ECB[^\n]*\n", ""),),
        LOCKED + "test_keyrings.py",
        r"ubuntu-archive-keyring\.gpg: keyring of archive ubuntu is missing",
    ),
    "A3": Fault(
        "an archive is known by the last part of its address",
        (
            (
                "vault_cube/image/locks/mirrors.py",
                r"(?s)same = \(repository\.label.*?\n        \)\n",
                "same = repository.uri.rstrip('/').rpartition('/')[2] == source.archive\n",
            ),
        ),
        "tests/functional/image/test_mirrors.py",
        r"index 0 diff: '[^']*/ubuntu'",
    ),
    "B1": Fault(
        "held names a package that nothing installs",
        ((TARGET, r"held: \[linux-image-generic,", "held: [linux-image-generic, linux-headers-generic,"),),
        "tests/unit/settings/test_layer_settings.py",
        r"linux-headers-generic",
    ),
    "B2": Fault(
        "nvidia-cdi-refresh.service starts, and fails, without a card",
        (
            (
                "salt/runtime/docker.sls",
                r"(nvidia-cdi-refresh(?s:.*?)\[Service\]\n) *\{\{ needs_card \}\}\n",
                r"\1        Nice=0\n",
            ),
        ),
        UNITS,
        r"nvidia-cdi-refresh\.service",
    ),
    "B3": Fault(
        "ssh-host-keys.service waits for a socket that waits for it",
        (("salt/base/first_boot.sls", r"Before=ssh\.service\n", "Before=ssh.service ssh.socket\n"),),
        UNITS,
        r"ordering cycle",
    ),
    "B4": Fault(
        "kernel and modules of two publications are locked together",
        (("vault_cube/image/locks/resolver.py", r"debs = _with_one_kernel\([^\n]*", "pass"),),
        "tests/functional/image/test_resolver.py",
        r"linux-image-6\.8\.0-146-generic",
    ),
    "C1": Fault(
        "Triton has no compiler and no Python headers",
        ((TARGET, r"  packages: \[gcc, g\+\+, python3-dev\]\n", ""),),
        LOCKED + "test_wheel_rules.py",
        r"triton[^\n]*needs",
    ),
    "C2": Fault(
        "vLLM compiles FlashInfer's sampler without nvcc",
        (("pillar/box.sls", r"      VLLM_USE_FLASHINFER_SAMPLER: '0'\n", ""),),
        "tests/unit/settings/test_vllm_settings.py",
        r"VLLM_USE_FLASHINFER_SAMPLER must be",
    ),
    "C3": Fault(
        "persistence stays off: Ubuntu's unit is static",
        (("salt/driver/modules.sls", r"driver\.provider == 'ubuntu'", "false"),),
        UNITS,
        r"--no-persistence-mode|StopWhenUnneeded|\['true'\]",
    ),
    "C4": Fault(
        "the check of nvcc compiles PTX that the driver does not read, and finds no library",
        (("vault_cube/box/driver.py", r'f"-arch=\{architecture\}", "-L", str\(libraries\), ', ""),),
        "tests/unit/box/test_layer_checks.py",
        r"-arch=",
    ),
    "C5": Fault(
        "nvcc is of another CUDA release than the runtime's headers",
        NVCC_OF_TODAY,
        LOCKED + "test_wheel_rules.py",
        r"nvidia-cuda-nvcc 13\.5\.37",
        sealed,
    ),
    "C6": Fault(
        "the pillar names a fallback driver that can never be installed",
        (
            (
                TARGET,
                r"(?m)^  cuda: \{toolkit",
                "  fallbacks: [{branch: '595', packages: [nvidia-utils-595]}]\n  cuda: {toolkit",
            ),
        ),
        "tests/unit/settings/test_layer_settings.py",
        r"driver:fallbacks|fallbacks",
    ),
    "C7": Fault(
        "cloud-init's datasources are the distribution's",
        (("salt/base/cloud.sls", r"cloud\.cfg\.d/zz-vault-cube\.cfg", "cloud.cfg.d/90-vault-cube.cfg"),),
        "tests/functional/salt/test_file_order.py",
        r"90_dpkg\.cfg",
    ),
    "C8": Fault(
        "a page waits for an issue of TensorFlow that is closed",
        (("docs/frameworks.md", r"The issue is closed, but no release on PyPI has the fix", "The issue is open"),),
        "tests/unit/docs/test_guide_statements.py",
        r"frameworks\.md: tensorflow issue 111958 is closed",
    ),
    "C9": Fault(
        "preflight guesses what wheels take",
        (("vault_cube/image/needs.py", r"wheel\.sha256: wheel\.size\b", "name: 512 << 20"),),
        "tests/unit/image/test_needs.py",
        r"assert",
    ),
    "C10": Fault(
        "make test needs a package that Debian 13 and Ubuntu 24.04 do not have",
        (("Makefile", r"(?m)^BUILDER := .*$", r"\g<0> packer"),),
        "tests/unit/image/test_preflight_commands.py",
        r"packer",
    ),
    "C11": Fault(
        "the image has AMD's microcode only if the builder is AMD's",
        (("salt/base/initramfs.sls", r"'AMD64UCODE_INITRAMFS=early'", "'AMD64UCODE_INITRAMFS=auto'"),),
        "tests/functional/salt/base/test_base_renders.py",
        r"AMD64UCODE_INITRAMFS=auto",
    ),
}


def copy(place: Path) -> Path:
    """Copy what git knows of this checkout, tests included; the copy uses this checkout's environment."""
    listed = subprocess.run(
        ["git", "-C", TOP, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, check=True,
    ).stdout.split(b"\0")  # fmt: skip
    checkout = place / "checkout"
    checkout.mkdir()
    files = b"\0".join(name for name in listed if name and (TOP / name.decode()).exists())
    archive = subprocess.run(
        ["tar", "-C", TOP, "--null", "-T", "-", "-c"], input=files, capture_output=True, check=True
    )
    subprocess.run(["tar", "-C", checkout, "-x"], input=archive.stdout, check=True)
    (checkout / ".venv").symlink_to(TOP / ".venv")
    (checkout / ".salt").mkdir()
    return checkout


def pytest_in(checkout: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests with the copy's code."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [checkout / ".venv/bin/pytest", "-q", "-p", "no:cacheprovider", "--no-header", *tests]
    return subprocess.run(
        command, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False, timeout=600,
    )  # fmt: skip


def put_back(fault: Fault, checkout: Path) -> str:
    """Bring a fault back and run its tests; the checkout is afterwards as it was.

    Returns the first test that failed and the line that names the fault. Raises ValueError if no test does.
    """
    before = {file: (checkout / file).read_text() for file, _, _ in fault.edits}
    try:
        for file, pattern, replacement in fault.edits:
            text, number = re.subn(pattern, replacement, (checkout / file).read_text())
            if not number:
                raise ValueError(f"{file}: nothing matches {pattern!r}: adapt tests/noble/put_back.py")
            (checkout / file).write_text(text)
        if fault.after:
            fault.after(checkout)
        ran = pytest_in(checkout, fault.tests)
    finally:
        for file, text in before.items():
            (checkout / file).write_text(text)
    # 1: tests ran, and some failed; other numbers are pytest's own errors
    if ran.returncode != 1:
        raise ValueError(f"{fault.tests}: pytest ended with {ran.returncode}, 1 was expected:\n{ran.stdout[-1500:]}")
    named = re.search(rf"^E .*(?:{fault.names}).*$", ran.stdout, re.M)
    if not named:
        raise ValueError(f"{fault.tests} fails, but does not name {fault.names!r}:\n{ran.stdout[-1500:]}")
    failed = re.search(r"^FAILED (\S+)", ran.stdout, re.M)
    return f"{failed[1] if failed else fault.tests}\n     {' '.join(named[0][1:].split())[:200]}"


def main(names: list[str]) -> int:
    """Put faults back, one at a time, and print a table. Returns the exit status."""
    chosen = {name: FAULTS[name] for name in names or FAULTS}
    missed = 0
    with tempfile.TemporaryDirectory(prefix="vault-cube-faults-") as place:
        checkout = copy(Path(place))
        whole = pytest_in(checkout, *{fault.tests for fault in chosen.values()})
        if whole.returncode:
            print(whole.stdout[-3000:])
            print("these tests fail without any fault")
            return 1
        for name, fault in chosen.items():
            try:
                print(f"{name:4} noticed  {fault.what}\n     {put_back(fault, checkout)}", flush=True)
            except ValueError as err:
                missed += 1
                print(f"{name:4} MISSED   {fault.what}\n     {err}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} faults noticed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
