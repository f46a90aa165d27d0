"""Make the root tree from the store: essential packages and Python with mmdebstrap, then Salt's environment with uv."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.inputs import Inputs
from vault_cube.image.layers import chroot, repository, seal, tools
from vault_cube.image.locks import pylock
from vault_cube.image.store import Store
from vault_cube.image.workspace import Workspace
from vault_cube.paths import CHECKOUT, SALT
from vault_cube.python_env import bytecode


def make(space: Workspace, inputs: Inputs) -> layer_cache.Entry:
    """Build the root tree of a target and store it in the layer cache. Returns its cache entry."""
    lock, codename, key = inputs.packages, space.settings.target.codename, inputs.keys[keys.ROOT]
    store, log = Store(space.store), space.logs / "root.log"
    log.unlink(missing_ok=True)
    debs = lock.of(keys.ROOT)
    with space.scratch(keys.ROOT) as work:
        repository.make(store, debs, work / "repo", codename)
        chroot.run(
            tools.tree(space),
            tools.mmdebstrap([deb.name for deb in debs], codename, "/run/work/tree", "/run/work/repo"),
            what="mmdebstrap",
            log=log,
            binds=[chroot.Bind(work, "/run/work", writable=True)],
            environment={"SOURCE_DATE_EPOCH": str(lock.epoch), "TMPDIR": "/tmp"},  # noqa: S108 a tmpfs in the tree
        )
        add_salt(space, inputs, work, log)
        seal.seal(work / "tree", lock.epoch)
        return layer_cache.keep(space.layers, key.key, work / "tree", keys.ROOT, key.inputs)


def add_salt(space: Workspace, inputs: Inputs, work: Path, log: Path) -> None:
    """Make Salt's environment in the tree. uv runs inside it, so that links and shebangs have the right paths."""
    wheels = inputs.wheels["salt"]
    link_wheels(space, wheels, work / "wheels")
    (work / "all.txt").write_text(pylock.text(wheels))
    # Salt is a source archive: install all wheels first, because its build needs setuptools, which is one of them
    (work / "ready.txt").write_text(pylock.text([wheel for wheel in wheels if wheel.file.endswith(".whl")]))
    binds = [
        chroot.Bind(work / "wheels", "/run/vault-cube/wheels"),
        chroot.Bind(space.uv, "/run/vault-cube/uv"),
        chroot.Bind(space.checkout / "vault_cube/python_env/bytecode.py", "/run/vault-cube/bytecode.py"),
        *(chroot.Bind(work / name, f"/run/vault-cube/{name}") for name in ("ready.txt", "all.txt")),
    ]
    environment = python_environment(inputs.packages.epoch)
    uv = "/run/vault-cube/uv"
    install = [
        uv,
        "pip",
        "install",
        "--python",
        f"{SALT}/bin/python",
        "--require-hashes",
        "--no-deps",
        "--no-build-isolation",
        "-r",
    ]
    for command in (
        [uv, "venv", "--python", "/usr/bin/python3", "--no-project", SALT],
        [*install, "/run/vault-cube/ready.txt"],
        [*install, "/run/vault-cube/all.txt"],
    ):
        chroot.run(work / "tree", command, what="uv", log=log, binds=binds, environment=environment)
    site = next((work / "tree" / SALT.lstrip("/") / "lib").glob("python3*/site-packages"))
    inside = f"/{site.relative_to(work / 'tree')}"
    compile_all = [f"{SALT}/bin/python", *bytecode.FLAGS, "/run/vault-cube/bytecode.py", "CHECKED_HASH", "", inside]
    chroot.run(
        work / "tree", compile_all, what="bytecode.py", log=log, binds=binds, environment=bytecode.ENVIRONMENT
    )  # fmt: skip
    # makes `import vault_cube` work in Salt's environment
    (site / "vault_cube.pth").write_text(f"{CHECKOUT}\n")
    (site / "vault_cube.pth").chmod(0o644)


def link_wheels(space: Workspace, wheels: Iterable[pylock.Wheel], folder: Path) -> None:
    """Link wheels into a folder under their file names; each is verified."""
    Store(space.store).link([(wheel.sha256, wheel.file) for wheel in set(wheels)], folder)


def python_environment(epoch: int) -> dict[str, str]:
    """Return the variables that make the output of Python and uv reproducible, and keep uv from using an index."""
    return {
        "SOURCE_DATE_EPOCH": str(epoch),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "UV_NO_CONFIG": "1",
        "UV_OFFLINE": "1",
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": "/run/vault-cube/wheels",
        "UV_CACHE_DIR": "/run/uv-cache",
        "UV_LINK_MODE": "copy",
        "UV_PYTHON_DOWNLOADS": "never",
    }
