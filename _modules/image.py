"""The golden image: its stages, one function each, and what one asks about it.

They work in the checkout that this module comes from, as root. `make image` runs them in order through Packer.
"""

import functools
import json
from pathlib import Path

from salt.exceptions import CommandExecutionError

__func_alias__ = {"lock_": "lock"}


def __virtual__():
    checkout = __opts__.get("vault_cube", {}).get("checkout")
    if checkout:
        return False, "image.* builds images: run it from a checkout, not on a box"
    return True


def _spoken(function):
    """Turn the package's errors into Salt's: one line for the person, exit code 1."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        from vault_cube.errors import VaultCubeError

        try:
            return function(*args, **kwargs)
        except VaultCubeError as err:
            raise CommandExecutionError(str(err)) from None
        except (KeyboardInterrupt, SystemExit):
            # Salt's own handler of Ctrl-C would end with exit code 0: the next stage would begin
            raise CommandExecutionError("stopped; what is finished is kept: run it again to go on") from None
        except OSError as err:
            where = f"{err.filename}: " if err.filename else ""
            raise CommandExecutionError(f"{where}{err.strerror or err}") from None

    return call


def _space(target=None, locked=False):
    """The workspace of a target: this checkout, its pillar rendered for the target and checked."""
    from vault_cube.image.workspace import Workspace
    from vault_cube.settings import PillarError, check

    target = target or __opts__["vault_cube"]["target"]
    checkout = Path(__opts__["config_dir"]).resolve().parent
    pillar = _pillar(target, checkout)
    try:
        settings = check(pillar)
    except PillarError as err:
        raise CommandExecutionError(str(err)) from None
    return Workspace(checkout, settings, pillar, locked=bool(locked))


def _pillar(target, checkout):
    from salt.pillar import get_pillar

    if not (checkout / f"pillar/targets/{target}.sls").is_file():
        known = ", ".join(sorted(file.stem for file in (checkout / "pillar/targets").glob("*.sls")))
        raise CommandExecutionError(f"{target}: no such target; pillar/targets/ has {known}")
    # an empty pillar: Salt merges what it renders into the one it began with, which is the default target's
    opts = dict(__opts__, vault_cube=dict(__opts__["vault_cube"], target=target), pillar={})
    pillar = get_pillar(opts, dict(__grains__), opts["id"], None).compile_pillar()
    errors = pillar.get("_errors", [])
    if errors:
        # Salt's own line names no reason and a log that does not exist; where it is all there is, it has to do
        said = [line for line in errors if "Please see master log" not in line] or errors
        said = [line.removeprefix("Failed to load ext_pillar vault_cube: ") for line in said]
        raise CommandExecutionError("\n".join(dict.fromkeys(said)))
    return json.loads(json.dumps(pillar))  # plain dicts, for yaml


@_spoken
def lock_(target=None):
    """
    Resolve every package again and write locks/.

    Returns a report, one statement per line: what was resolved, what moved, what differs from the target's contract,
    how much a build downloads, how much disk it needs, and the next command.

    target
        a name in pillar/targets/; the default is conf/minion's

    CLI Example:

    .. code-block:: bash

        salt-call image.lock target=debian-13
    """
    from vault_cube.image.locks import contract, lock_report, resolve

    space = _space(target, locked=True)
    # read before anything is resolved: a malformed file must not cost minutes
    expected = contract.of(space)
    return lock_report.lines(space, resolve.make(space), expected)


@_spoken
def preflight(target=None, locked=False):
    """
    Check everything that can be known before the first byte is fetched; returns what was found good.

    CLI Example:

    .. code-block:: bash

        salt-call image.preflight target=ubuntu-24.04
    """
    from vault_cube.image import preflight

    return preflight.check(_space(target, locked))


@_spoken
def current(target=None, locked=False):
    """
    Say whether the finished image is what its inputs say today; exit code 3 when something is to be made.

    locked
        an image with packages that its lock does not name is not

    CLI Example:

    .. code-block:: bash

        salt-call image.current target=debian-12
    """
    from vault_cube.image import recipe
    from vault_cube.image.progress import note

    manifest = recipe.current(_space(target, locked))
    if manifest is None:
        __context__["retcode"] = 3
        return f"{target or 'the default target'}: something is to be made"
    for name, file in manifest["files"].items():
        note(f"dist/{name} is what its inputs say; sha256 {file['sha256']}")
    if recipe.verdict(manifest):
        note(recipe.verdict(manifest))
    return {name: file["sha256"] for name, file in manifest["files"].items()}


@_spoken
def fetch(target=None, locked=False):
    """
    Bring everything that the locks name into the store; after this a build needs no network.

    CLI Example:

    .. code-block:: bash

        salt-call image.fetch target=debian-12 locked=True
    """
    return _stage("make_fetch", target, locked)


@_spoken
def tools(target=None):
    """
    Make the tools tree, whose mkfs, ukify and qemu make and boot the disk.

    CLI Example:

    .. code-block:: bash

        salt-call image.tools
    """
    return _stage("make_tools", target)


@_spoken
def layer(name="validation", target=None):
    """
    Make the root and the layers up to a named one; what is kept under the right key is not made again.

    name
        root, base, driver, runtime, frameworks or validation

    CLI Example:

    .. code-block:: bash

        salt-call image.layer base target=debian-12
    """
    from vault_cube.image.cache.keys import ORDER

    if name not in ORDER:
        raise CommandExecutionError(f"{name}: no such layer; there are {', '.join(ORDER)}")
    return _stage("make_layers", target, False, name)


@_spoken
def disk(target=None):
    """
    Make disk, forms, checksums and manifest of the finished layers, in build/<target>/image.

    CLI Example:

    .. code-block:: bash

        salt-call image.disk target=debian-12
    """
    return _stage("make_disk", target)


@_spoken
def prove(target=None):
    """
    Boot the image that ``image.disk`` made, judge it from outside, and put it into dist/ when all promises are kept.

    CLI Example:

    .. code-block:: bash

        salt-call image.prove target=debian-12
    """
    return _stage("prove", target)


@_spoken
def boot(target=None, image=None):
    """
    Boot a finished image for a person: ssh on a local port with a throw-away key; the image does not change.

    image
        a qcow2 or raw file; the target's newest in dist/ otherwise

    Ends when the guest goes off, or with Ctrl-C.

    CLI Example:

    .. code-block:: bash

        salt-call image.boot target=debian-12
    """
    from vault_cube.image import recipe
    from vault_cube.image.guest import machine as guests
    from vault_cube.image.guest.cases import Expected
    from vault_cube.image.guest.qemu import Hardware, Qemu
    from vault_cube.image.layers import tools

    space = _space(target)
    wanted = Expected.of(space.settings)
    guests.boot(
        Path(image) if image else space.dist / f"{recipe.basename(space)}.qcow2",
        Qemu.of_tree(tools.tree(space)),
        Hardware.of_this_machine(),
        user=wanted.user,
        port=wanted.ssh_port,
        console=space.logs / "console.log",
    )
    return True


@_spoken
def vm(layers="validation", target=None):
    """
    Boot the image of layer 1 by Packer and apply layers of this checkout inside over ssh: for working on states.

    layers
        names with commas; each brings the layers below it

    Returns the changed disk, which ``image.boot image=…`` boots.

    CLI Example:

    .. code-block:: bash

        salt-call image.vm layers=driver,runtime
    """
    from vault_cube.image import vm as guests
    from vault_cube.image.guest.qemu import Hardware, Qemu
    from vault_cube.image.layers import tools

    space = _space(target)
    with space.exclusive():
        image = guests.base_image(space)
        qemu = Qemu.of_tree(tools.tree(space))
        names = [name.strip() for name in str(layers).split(",")]
        return str(guests.apply(space, image, qemu, Hardware.of_this_machine(), names))


def _stage(name, target, locked=False, *args):
    """One stage of the recipe, alone in its target."""
    from vault_cube.image import recipe

    space = _space(target, locked)
    with space.exclusive():
        getattr(recipe, name)(space, *args)
    return True


@_spoken
def why(name, target=None):
    """
    Say which inputs of a layer's key changed since it was last built here.

    name
        root, base, driver, runtime, frameworks or validation

    CLI Example:

    .. code-block:: bash

        salt-call image.why validation
    """
    from vault_cube.image.cache import keys

    if name not in keys.ORDER:
        raise CommandExecutionError(f"{name}: no such layer; there are {', '.join(keys.ORDER)}")
    return keys.why(_space(target), name)


@_spoken
def build(target=None, locked=False):
    """
    Make whatever of the image is missing: fetch, tools, root, layers, disk. Returns the image's manifest.

    locked
        what the lock names and nobody serves any more is an error

    CLI Example:

    .. code-block:: bash

        salt-call image.build target=debian-12 locked=True
    """
    from vault_cube.image import recipe

    return recipe.build(_space(target, locked))


@_spoken
def sign(key, target=None, bundle=False):
    """
    Sign the finished image of a target: an ssh signature over its SHA256SUMS, in dist/.

    key
        a private ssh key, or the public half of one that an agent holds

    bundle
        sign the bundle instead

    CLI Example:

    .. code-block:: bash

        salt-call image.sign ~/.ssh/id_ed25519 target=debian-12
    """
    from vault_cube.image import recipe
    from vault_cube.image.attest import signature

    space = _space(target)
    sums = f"{recipe.basename(space)}{'.bundle' if bundle else ''}.SHA256SUMS"
    return str(signature.sign(space.dist / sums, Path(key).expanduser()))


@_spoken
def check(file, signers=None):
    """
    Check an image that somebody handed over: checksum, signature, provenance. Returns what was found good.

    file
        the image, beside the files that came with it

    signers
        whose signature counts: a public ssh key, or an allowed_signers file (man ssh-keygen)

    CLI Example:

    .. code-block:: bash

        salt-call image.check dist/vault-cube-demo-box-1.0.0-debian-12.qcow2 signers=maintainer.pub
    """
    from vault_cube.image.inspect import check

    return check.check(Path(file), Path(signers).expanduser() if signers else None)


@_spoken
def diff(one, two):
    """
    Say what differs between two images, layers or folders: packages, configuration, files, first bytes; exit code 1.

    one, two
        images (raw, raw.zst, qcow2), folders of the layer cache, or any two folders

    CLI Example:

    .. code-block:: bash

        salt-call image.diff dist/old.qcow2 dist/new.qcow2
    """
    from vault_cube.image.inspect import diff

    found = diff.diff(_space(), Path(one), Path(two))
    if found:
        __context__["retcode"] = 1
    return found or f"{one} and {two} are the same"


@_spoken
def verify(target=None):
    """
    Prove that the image is reproducible: build it again from nothing, elsewhere and otherwise, and compare.

    Returns the sha256 of each file and what was varied; a difference is an error that names files and bytes.

    CLI Example:

    .. code-block:: bash

        salt-call image.verify target=debian-13
    """
    from vault_cube.image import verify

    return verify.verify(_space(target, locked=True))


@_spoken
def bundle(packages, target=None):
    """
    Pack checkout, locks and store into one archive, from which an image is built without a network.

    packages
        what a build installs on the machine itself, names separated by spaces

    CLI Example:

    .. code-block:: bash

        salt-call image.bundle "mmdebstrap python3-venv" target=debian-12
    """
    from vault_cube.image import bundle

    return str(bundle.make(_space(target, locked=True), packages.split()))


@_spoken
def clean_cache():
    """
    Remove all finished layers and all fetched files, of all targets; returns what it freed.

    CLI Example:

    .. code-block:: bash

        salt-call image.clean_cache
    """
    from vault_cube.image.cache import evict

    return evict.clean(_space())


@_spoken
def enter(command=None, target=None):
    """
    Run a command inside the tree of the built image, at native speed, on a copy that is thrown away; without one, a
    shell.

    No network, nothing installed here, no machine booted. Results of ``gpu.benchmark`` and ``gpu.stress`` in there stay
    in build/<target>/benchmarks. The exit code is the command's.

    command
        in one string, as a shell takes it

    CLI Example:

    .. code-block:: bash

        salt-call image.enter
        salt-call image.enter 'salt-call --local gpu.stress duration=60s'
    """
    from vault_cube.image import enter as inside

    status = inside.enter(_space(target), ["sh", "-c", command] if command else [])
    __context__["retcode"] = status
    return status == 0


@_spoken
def benchmark(suite=None, quick=False, force=False, target=None):
    """
    Run ``gpu.benchmark`` inside the tree of the built image; results and report stay in build/<target>/benchmarks.

    suite, quick, force
        as ``gpu.benchmark`` takes them

    Returns what it said, and the grain ``gpu_benchmark`` as a later call in there sees it.

    CLI Example:

    .. code-block:: bash

        salt-call image.benchmark quick=True
    """
    from vault_cube.image import enter as inside

    said, status = inside.benchmark(_space(target), suite, quick=quick, force=force)
    __context__["retcode"] = status
    return said


@_spoken
def vulnerabilities(data=None, target=None):
    """
    Hold a target's locked packages and wheels against vulnerability data that was brought here; fetches nothing.

    data
        the JSON of Debian's security tracker (security-tracker.debian.org/tracker/data/json), or OSV's all.zip of
        PyPI or Debian

    CLI Example:

    .. code-block:: bash

        salt-call image.vulnerabilities data=tracker.json target=debian-12
    """
    from vault_cube.image.inspect import vulnerabilities

    return vulnerabilities.report(_space(target), Path(data).expanduser() if data else None)
