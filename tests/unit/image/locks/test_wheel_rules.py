"""Compatibility rules: each violation is one line with environment, package and pillar key."""

import shutil
from pathlib import Path

import pytest
from copied import chosen, merged
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from vault_cube.errors import VaultCubeError
from vault_cube.image import preflight
from vault_cube.image.cache.keys import KEYRINGS
from vault_cube.image.locks import pylock, vendors, wheel_rules
from vault_cube.image.locks.aptlock import AptLock, Deb
from vault_cube.image.locks.pylock import Wheel
from vault_cube.image.workspace import LAYERS, Workspace
from vault_cube.settings import check
from vault_cube.verdicts import NotApplicable

TOP = Path(__file__).parents[4]
GPU_TARGETS = ("debian-13-nvidia", "ubuntu-24.04")
COMPILER = {"gcc", "g++", "python3-dev"}
CUDA_13_0 = {
    "nvidia-cuda-nvcc": "13.0.88", "nvidia-nvvm": "13.0.88", "nvidia-cuda-crt": "13.0.88",
    "nvidia-cuda-cccl": "13.0.85", "nvidia-cuda-runtime": "13.0.96",
}  # fmt: skip


def settings(target="ubuntu-24.04", **driver):
    return check(merged(*chosen(target), {"driver": driver}))


def wheels(**versions):
    return [
        Wheel(name.replace("_", "-"), version, "0" * 64, f"{name}-{version}-py3-none-any.whl", 1)
        for name, version in versions.items()
    ]


def broken(versions, packages=COMPILER, wanted=None):
    """Check an environment `env` with these wheels. Returns one line per broken rule."""
    locked = wheels(**{name.replace("-", "_"): version for name, version in versions.items()})
    try:
        wheel_rules.check(wanted or settings(), {"env": locked}, packages)
    except VaultCubeError as err:
        lines = str(err).splitlines()
        assert all(line.startswith("env: ") for line in lines)
        return lines
    return []


def locks_of(target, wanted):
    names = ("salt", *wanted.frameworks.environments)
    return {name: pylock.read(TOP / f"locks/{target}/python-{name}.lock") for name in names}


@pytest.mark.parametrize("target", ["debian-12", "debian-13", *GPU_TARGETS])
def test_the_committed_locks_break_no_rule(target):
    wanted = settings(target)
    wheel_rules.check(wanted, locks_of(target, wanted), wanted.frameworks.packages)


@pytest.mark.parametrize("target", ["debian-12", "debian-13", *GPU_TARGETS])
def test_the_committed_locks_contain_the_versions_that_the_pillar_pins(target):
    wanted = settings(target)
    locked = locks_of(target, wanted)
    for name, environment in [("salt", wanted.image.salt), *wanted.frameworks.environments.items()]:
        versions = {wheel.name: Version(wheel.version) for wheel in locked[name]}
        for requirement in map(Requirement, environment.requirements):
            package = canonicalize_name(requirement.name)
            assert package in versions, f"{target} {name}: {package} is not locked: run `make lock TARGET={target}`"
            assert versions[package] in requirement.specifier, f"{target} {name}: {package} {versions[package]}"


@pytest.mark.parametrize("target", GPU_TARGETS)
@pytest.mark.parametrize("package", ["gcc", "python3-dev"])
def test_the_committed_locks_need_the_compiler_that_the_pillar_names(target, package):
    wanted = settings(target)
    with pytest.raises(VaultCubeError, match=f"add {package} to frameworks:packages") as caught:
        wheel_rules.check(wanted, locks_of(target, wanted), set(wanted.frameworks.packages) - {package})
    assert {line.partition(":")[0] for line in str(caught.value).splitlines()} == {"pytorch", "vllm"}


@pytest.mark.parametrize(
    ("versions", "packages", "lines"),
    [
        ({"triton": "3.7.1"}, {"gcc", "python3-dev"}, []),
        ({"triton": "3.7.1"}, {"clang", "libpython3.12-dev"}, []),
        ({"triton": "3.7.1"}, {"build-essential", "python3.12-dev"}, []),
        ({"triton": "3.7.1"}, {"gcc-14", "python3-dev"}, ["triton 3.7.1 needs a C compiler"]),
        ({"triton": "3.7.1"}, {"gcc", "python3.13-dev"}, ["triton 3.7.1 needs Python's headers"]),
        ({"triton": "3.7.1"}, set(), ["triton 3.7.1 needs a C compiler", "triton 3.7.1 needs Python's headers"]),
        ({"pytorch-triton": "3.2"}, {"python3-dev"}, ["pytorch-triton 3.2 needs a C compiler"]),
        (CUDA_13_0, {"gcc"}, ["nvidia-cuda-nvcc 13.0.88 needs a C++ compiler"]),
        # this wheel contains ptxas but no nvcc
        ({"nvidia-cuda-nvcc-cu12": "12.9.86"}, set(), []),
        ({"torch": "2.13.0"}, set(), []),
    ],
)
def test_packages_that_compile_on_the_box_need_a_compiler(versions, packages, lines):
    problems = broken(versions, packages)
    assert [line.removeprefix("env: ").partition(" on the box")[0] for line in problems] == lines
    assert all("frameworks:packages" in line for line in problems)


def test_triton_on_a_target_without_a_gpu_needs_no_compiler():
    assert broken({"triton": "3.7.1"}, set(), settings("debian-13")) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, None),
        # without a pin, uv chooses the newest nvcc beside the runtime that torch needs
        ({"nvidia-cuda-nvcc": "13.5.37", "nvidia-nvvm": "13.5.37", "nvidia-cuda-crt": "13.5.37"}, "13.5.37"),
        ({"nvidia-cuda-runtime": "13.1.80"}, "nvidia-cuda-runtime 13.1.80"),
        ({"nvidia-cuda-crt": "13.1.80"}, "nvidia-cuda-crt 13.1.80"),
        # the wheel of CCCL 3.5.0, with CCCL's own version
        ({"nvidia-cuda-cccl": "13.3.5.0.6"}, "nvidia-cuda-cccl 13.3.5.0.6"),
        ({"nvidia-cuda-cccl-cu12": "12.9.27"}, "nvidia-cuda-cccl-cu12 12.9.27"),
    ],
)
def test_all_parts_of_a_toolkit_must_be_of_one_cuda_release(change, named):
    lines = [line for line in broken(CUDA_13_0 | change) if "different CUDA releases" in line]
    assert len(lines) == (1 if named else 0)
    if named:
        assert named in lines[0]
        assert "frameworks:environments:env" in lines[0]


def test_a_cccl_wheel_counts_as_part_of_its_cuda_release():
    newest = dict.fromkeys(CUDA_13_0, "13.3.33") | {"nvidia-cuda-cccl": "13.3.3.3.1"}
    assert broken(newest, wanted=settings(branch="610")) == []


@pytest.mark.parametrize(
    ("release", "branch", "reads"),
    [
        ("13.0.88", "580", True),
        ("13.5.37", "580", False),
        ("13.1.115", "580", False),
        ("13.1.115", "590", True),
        ("13.2.86", "595", True),
        # an unknown branch compiles at least the PTX that the last known branch before it compiles
        ("13.2.86", "600", True),
        ("13.3.73", "600", False),
        ("12.9.86", "580", True),
    ],
)
def test_the_driver_must_compile_the_ptx_that_nvcc_emits(release, branch, reads):
    lines = broken(dict.fromkeys(CUDA_13_0, release), wanted=settings(branch=branch))
    assert (lines == []) is reads
    if not reads:
        assert f"driver {branch} compiles PTX of CUDA" in lines[0]
        assert f"nvidia-cuda-nvcc {release}" in lines[0]


@pytest.mark.parametrize(
    ("wheel", "generation", "branch", "reads"),
    [
        ({"tensorflow": "2.21.0"}, "ada", "550", True),
        ({"tensorflow": "2.21.0"}, "hopper", "550", False),
        ({"tensorflow": "2.21.0"}, "hopper", "555", True),
        ({"tensorflow": "2.21.0"}, "blackwell", "580", True),
        ({"vllm": "0.32.0"}, "blackwell", "575", False),
        ({"vllm": "0.32.0"}, "blackwell", "580", True),
    ],
)
def test_the_driver_must_compile_the_ptx_in_a_wheel(wheel, generation, branch, reads):
    # the schema allows the older branches only with CUDA 12
    wanted = settings(branch=branch, generation=generation, cuda={"toolkit": "12.9", "cudnn": "9.28"})
    lines = broken(wheel, wanted=wanted)
    assert (lines == []) is reads
    assert reads or f"no machine code for {generation} GPUs" in lines[0]


@pytest.mark.parametrize(
    ("versions", "fits"),
    [
        ({"cuda-python": "12.6.2.post1", "cuda-bindings": "13.5.0"}, False),
        ({"cuda-python": "12.4.0", "cuda-bindings": "12.9.4"}, False),
        ({"cuda-python": "13.0.3", "cuda-bindings": "13.0.3"}, True),
        ({"cuda-bindings": "12.9.4"}, True),
        ({"cuda-python": "12.6.2.post1"}, True),
    ],
)
def test_only_one_package_may_contain_cuda_bindings(versions, fits):
    lines = broken(versions)
    assert (lines == []) is fits
    assert fits or "both contain the modules cuda.bindings" in lines[0]


def test_every_broken_rule_is_one_line():
    lines = broken({**CUDA_13_0, "nvidia-cuda-nvcc": "13.5.37", "triton": "3.7.1"}, set())
    assert len(lines) == 5


@pytest.fixture
def space(tmp_path):
    """A workspace of ubuntu-24.04 with the committed locks."""
    shutil.copytree(TOP / "locks", tmp_path / "locks")
    pillar = merged(*chosen("ubuntu-24.04"))
    return Workspace(tmp_path, check(pillar), pillar, cache=tmp_path / "cache", store=tmp_path / "store")


def lock_debs(space, *, without=()):
    """Write an apt lock with all packages of the pillar except `without`, and a lock of the vendors' keys."""
    wanted = space.settings
    layers = {name: getattr(wanted, name).packages for name in LAYERS}
    layers["root"] = wanted.image.root_packages
    debs = [
        Deb(layer, name, "1", "amd64", "noble", "ubuntu", 1, "a" * 64, f"pool/{name}.deb")
        for layer, names in layers.items()
        for name in names
        if name not in without
    ]
    (space.locks / "apt.lock").write_text(AptLock(1_700_000_000, tuple(debs)).text())
    keys = {repository.name: ("b" * 64, 1) for repository in vendors.repositories(space)}
    (space.locks / KEYRINGS).write_text(vendors.text(keys))


def test_preflight_reports_a_broken_rule(space):
    lock_debs(space)
    assert preflight.has_locks(preflight.Builder(space)).endswith(" wheels")
    changed = [wheel for wheel in pylock.read(space.locks / "python-vllm.lock") if wheel.name != "nvidia-cuda-nvcc"]
    changed += wheels(nvidia_cuda_nvcc="13.5.37")
    (space.locks / "python-vllm.lock").write_text(pylock.text(changed))
    with pytest.raises(VaultCubeError, match=r"vllm: .*nvidia-cuda-nvcc 13\.5\.37"):
        preflight.has_locks(preflight.Builder(space))


def test_preflight_reports_a_missing_lock_of_the_vendors_keys(space):
    lock_debs(space)
    (space.locks / KEYRINGS).unlink()
    with pytest.raises(VaultCubeError, match=r"keyrings\.lock: this lock does not exist yet"):
        preflight.has_locks(preflight.Builder(space))


def test_without_an_apt_lock_preflight_suggests_make_lock(space):
    (space.locks / "apt.lock").unlink(missing_ok=True)
    with pytest.raises(VaultCubeError) as caught:
        preflight.has_locks(preflight.Builder(space))
    assert (
        str(caught.value)
        == f"{space.locks}/apt.lock: this lock does not exist yet: run `make lock TARGET=ubuntu-24.04`"
    )
    with pytest.raises(NotApplicable, match="no locks could be read"):
        preflight.has_room(preflight.Builder(space))
