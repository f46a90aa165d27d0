"""Build, test and inspect golden images: one function per stage of a build, and functions that examine images.

All functions work on the checkout that contains this module. The stages need root; `make image` runs them in order,
through Packer if it is installed.
"""

import functools
import json
from pathlib import Path

from salt.exceptions import CommandExecutionError

__func_alias__ = {"lock_": "lock"}


def __virtual__():
    checkout = __opts__.get("vault_cube", {}).get("checkout")
    if checkout:
        return False, "image.* builds images: run it in a checkout, not on a box"
    return True


def _salt_errors(function):
    """Turn the package's errors into Salt's, so that salt-call prints one line and exits with code 1."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        from vault_cube.errors import VaultCubeError, shown
        from vault_cube.redact import redacted

        try:
            return function(*args, **kwargs)
        except VaultCubeError as err:
            raise CommandExecutionError(shown(err)) from None
        except (KeyboardInterrupt, SystemExit):
            # Salt's own handler of Ctrl-C exits with code 0, so Packer would start the next stage
            raise CommandExecutionError("stopped; finished stages are kept: run it again to continue") from None
        except OSError as err:
            where = f"{err.filename}: " if err.filename else ""
            raise CommandExecutionError(redacted(f"{where}{err.strerror or err}")) from None

    return call


def _space(target=None, locked=False):
    """Return the workspace of a target: this checkout, and the target's pillar after validation."""
    from vault_cube.image.workspace import Workspace
    from vault_cube.settings import PillarError, check

    target = target or __opts__["vault_cube"]["target"]
    # the configuration is in conf/ of the checkout, or vault_cube/salt_call.py has written it
    checkout = Path(__opts__["vault_cube"].get("sources") or Path(__opts__["config_dir"]).resolve().parent)
    pillar = _pillar(target, checkout)
    try:
        settings = check(pillar)
    except PillarError as err:
        raise CommandExecutionError(str(err)) from None
    return Workspace(checkout, settings, pillar, locked=bool(locked))


def _pillar(target, checkout):
    """Render the pillar of a target. Raises CommandExecutionError if there is no such target or rendering fails."""
    from salt.pillar import get_pillar

    if not (checkout / f"pillar/targets/{target}.sls").is_file():
        known = ", ".join(sorted(file.stem for file in (checkout / "pillar/targets").glob("*.sls")))
        raise CommandExecutionError(f"{target}: no such target; pillar/targets/ has {known}")
    if target == __opts__["vault_cube"]["target"]:
        # Salt has just compiled it, from the same files
        return _plain(dict(__pillar__))
    # start from an empty pillar: Salt would merge the result into its current one, which is the default target's
    opts = dict(__opts__, vault_cube=dict(__opts__["vault_cube"], target=target), pillar={})
    pillar = get_pillar(opts, dict(__grains__), opts["id"], None).compile_pillar()
    return _plain(pillar)


def _plain(pillar):
    """Return a pillar without Salt's types, which YAML cannot dump. Raises CommandExecutionError with its errors."""
    if pillar.get("_errors"):
        raise CommandExecutionError("\n".join(pillar["_errors"]))
    return json.loads(json.dumps(pillar))


@_salt_errors
def lock_(target=None):
    """
    Resolve every package again and write the target's locks.

    Returns a report, one statement per line: resolved packages, changes since the last lock, deviations from the
    target's contract, the download size and disk space of a build, and the next command.

    target
        a name in pillar/targets/; default: the target in conf/minion

    CLI Example:

    .. code-block:: bash

        salt-call image.lock target=debian-13
    """
    from vault_cube.image import lock_report
    from vault_cube.image.locks import contract, resolve

    space = _space(target, locked=True)
    # read it first: a malformed file should fail now, not after minutes of resolving
    expected = contract.of(space)
    return lock_report.lines(space, resolve.make(space), expected)


@_salt_errors
def preflight(target=None, locked=False):
    """
    Check all requirements of a build that can be checked before the first download.

    target
        a name in pillar/targets/; default: the target in conf/minion

    locked
        check the committed locks, not those that an earlier build re-resolved

    Returns a table; with --out=json or --out=yaml a dictionary as that of ``layer.check``.

    CLI Example:

    .. code-block:: bash

        salt-call image.preflight target=ubuntu-24.04
    """
    from vault_cube import terminal
    from vault_cube.image import preflight

    report = preflight.check(_space(target, locked))
    return report.table() if terminal.for_a_person(__opts__) else report.as_dict()


@_salt_errors
def current(target=None, locked=False):
    """
    Check whether the image in dist/ is up to date. Exit code 3 if it has to be built.

    locked
        treat an image whose packages differ from the lock as out of date

    Returns the SHA-256 of each file of the image.

    CLI Example:

    .. code-block:: bash

        salt-call image.current target=debian-12
    """
    from vault_cube.image import recipe
    from vault_cube.image.attest import finished
    from vault_cube.image.progress import note

    manifest = finished.current(_space(target, locked))
    if manifest is None:
        __context__["retcode"] = 3
        return f"{target or 'the default target'}: the image has to be built"
    for name, file in manifest["files"].items():
        note(f"dist/{name} is up to date; sha256 {file['sha256']}")
    if warning := recipe.verdict(manifest):
        note(warning)
    return {name: file["sha256"] for name, file in manifest["files"].items()}


@_salt_errors
def fetch(target=None, locked=False):
    """
    Download all locked files into the store. The later stages of a build need no network.

    locked
        fail if a locked file is no longer available, instead of re-resolving it

    CLI Example:

    .. code-block:: bash

        salt-call image.fetch target=debian-12 locked=True
    """
    from vault_cube.image import recipe

    space = _space(target, locked)
    with space.exclusive():
        recipe.make_fetch(space)
    return True


@_salt_errors
def tools(target=None):
    """
    Make the tools tree, whose mmdebstrap, mke2fs, ukify and QEMU make and boot the image.

    CLI Example:

    .. code-block:: bash

        salt-call image.tools
    """
    return _stage("make_tools", target)


@_salt_errors
def layer(name="validation", target=None):
    """
    Make the root tree and all layers up to the given one; cached layers with a matching key are reused.

    name
        root, base, driver, runtime, frameworks or validation

    CLI Example:

    .. code-block:: bash

        salt-call image.layer base target=debian-12
    """
    from vault_cube.image.cache.keys import ORDER

    if name not in ORDER:
        raise CommandExecutionError(f"{name}: no such layer; there are {', '.join(ORDER)}")
    return _stage("make_layers", target, name)


@_salt_errors
def disk(target=None):
    """
    Make the image's formats, attestations and manifest from the finished layers, in build/<target>/image.

    CLI Example:

    .. code-block:: bash

        salt-call image.disk target=debian-12
    """
    return _stage("make_disk", target)


@_salt_errors
def prove(target=None):
    """
    Boot the image that ``image.disk`` made, check it from outside, and move it to dist/ if all checks pass.

    CLI Example:

    .. code-block:: bash

        salt-call image.prove target=debian-12
    """
    return _stage("prove", target)


@_salt_errors
def boot(target=None, image=None):
    """
    Boot a finished image for interactive use, with ssh on a local port and a temporary key. The image is not changed.

    image
        a qcow2 or raw file; default: the target's image in dist/

    Returns when the guest is powered off; Ctrl-C stops it.

    CLI Example:

    .. code-block:: bash

        salt-call image.boot target=debian-12
    """
    from vault_cube.image.attest import finished
    from vault_cube.image.guest import machine as guests
    from vault_cube.image.guest.cases import Expected
    from vault_cube.image.guest.qemu import Hardware, Qemu
    from vault_cube.image.layers import tools

    space = _space(target)
    wanted = Expected.of(space.settings)
    file = Path(image) if image else space.dist / f"{finished.basename(space)}.qcow2"
    if not file.is_file():
        remedy = "name another file" if image else f"run `make image TARGET={space.target}`"
        raise CommandExecutionError(f"{file}: no such image: {remedy}")
    guests.boot(
        file,
        Qemu.of_tree(tools.tree(space)),
        Hardware.of_this_machine(),
        user=wanted.user,
        port=wanted.ssh_port,
        console=space.logs / "console.log",
    )
    return True


@_salt_errors
def vm(layers="validation", target=None):
    """
    Boot an image of the base layer with Packer and apply layers of this checkout to it over ssh, for work on states.

    layers
        comma-separated names; each also applies the layers below it

    Returns the path of the changed disk, which ``image.boot image=PATH`` boots.

    CLI Example:

    .. code-block:: bash

        salt-call image.vm layers=driver,runtime
    """
    from vault_cube.image.guest.qemu import Hardware, Qemu
    from vault_cube.image.inside import vm as guests
    from vault_cube.image.layers import tools

    space = _space(target)
    with space.exclusive():
        image = guests.base_image(space)
        qemu = Qemu.of_tree(tools.tree(space))
        names = [name.strip() for name in str(layers).split(",")]
        return str(guests.apply(space, image, qemu, Hardware.of_this_machine(), names))


def _stage(name, target, *args):
    """Run one stage of the recipe; no other build of the target can run at the same time."""
    from vault_cube.image import recipe
    from vault_cube.image.inputs import Inputs

    space = _space(target)
    with space.exclusive():
        getattr(recipe, name)(space, Inputs.read(space), *args)
    return True


@_salt_errors
def why(name, target=None):
    """
    List the inputs of a layer's key that changed since the layer was last built in this checkout.

    name
        root, base, driver, runtime, frameworks or validation

    CLI Example:

    .. code-block:: bash

        salt-call image.why validation
    """
    from vault_cube.image.cache import keys
    from vault_cube.image.inputs import Inputs

    if name not in keys.ORDER:
        raise CommandExecutionError(f"{name}: no such layer; there are {', '.join(keys.ORDER)}")
    space = _space(target)
    return keys.why(space, name, Inputs.read(space).keys[name])


@_salt_errors
def build(target=None, locked=False):
    """
    Run all stages of a build that are not up to date: preflight, fetch, tools, layers, disk, boot test.

    locked
        fail if a locked file is no longer available, instead of re-resolving it

    Returns the image's manifest.

    CLI Example:

    .. code-block:: bash

        salt-call image.build target=debian-12 locked=True
    """
    from vault_cube.image import recipe

    return recipe.build(_space(target, locked))


@_salt_errors
def sign(key, target=None, bundle=False):
    """
    Sign the finished image of a target: write an ssh signature of its SHA256SUMS to dist/.

    key
        file of a private ssh key, or of a public key whose private key is in the ssh agent

    bundle
        sign the target's bundle instead of its image

    Returns the path of the signature.

    CLI Example:

    .. code-block:: bash

        salt-call image.sign ~/.ssh/id_ed25519 target=debian-12
    """
    from vault_cube.image.attest import finished, signature

    space = _space(target)
    sums = f"{finished.basename(space)}{'.bundle' if bundle else ''}.SHA256SUMS"
    return str(signature.sign(space.dist / sums, Path(key).expanduser()))


@_salt_errors
def check(file, signers=None, builders=None, threshold=None, root=None):
    """
    Check an image that was received from elsewhere, or the disk of a box that was made from it: checksum, signature,
    provenance, files. Returns the passed checks.

    file
        the image, or the manifest of its files (``*.files.gz``); its SHA256SUMS, signature, provenance and statements
        of rebuilds are in the same folder

    signers
        trusted signers: a public ssh key, or an allowed_signers file (man ssh-keygen)

    builders
        builders that are trusted to reproduce images, in the same form; needs threshold

    threshold
        how many different builders must have signed a statement (``image.rebuild_check``) about this image

    root
        folder in which the root file system of a box's disk is mounted, read-only: all its files are read and compared
        with the manifest, outside of the box's control

    CLI Example:

    .. code-block:: bash

        salt-call image.check dist/vault-cube-demo-box-1.0.0-debian-12.qcow2 signers=maintainer.pub
        salt-call image.check image.qcow2 signers=maintainer.pub builders=allowed_signers threshold=2
        salt-call image.check dist/vault-cube-demo-box-1.0.0-debian-12.files.gz signers=maintainer.pub root=/mnt
    """
    from vault_cube.image.inspect import check

    try:
        required = None if threshold is None else int(threshold)
    except (TypeError, ValueError):
        raise CommandExecutionError(f"threshold={threshold}: not a number") from None
    return check.check(Path(file), _file(signers), _file(builders), required, root=_file(root))


def _file(name):
    return Path(name).expanduser() if name else None


@_salt_errors
def rebuild_check(file, key):
    """
    Rebuild somebody else's image from the commit in its provenance, and sign a statement if the bytes are equal.

    The statement and its signature are written beside the provenance. ``image.check`` counts them. Needs root, and a
    clone that has the commit.

    file
        the image, with its SHA256SUMS and provenance in the same folder, or the provenance alone

    key
        file of your private ssh key, or of a public key whose private key is in the ssh agent

    Returns the path of the statement. Fails if the image differs from its rebuild; the error names the files.

    CLI Example:

    .. code-block:: bash

        salt-call image.rebuild_check received/image.provenance.json ~/.ssh/id_ed25519
    """
    from vault_cube.image.inspect import origin
    from vault_cube.image.release import rebuild

    provenance = rebuild.provenance_of(Path(file))
    space = _space(origin.read(provenance).target, locked=True)
    return str(rebuild.reproduce(space, provenance, Path(key).expanduser()))


@_salt_errors
def diff(first, second):
    """
    List the differences between two images, layers or folders: packages, configuration, files, first bytes.

    Exit code 1 if there is a difference.

    first, second
        images (raw, raw.zst, qcow2), folders of the layer cache, or any two folders

    CLI Example:

    .. code-block:: bash

        salt-call image.diff dist/old.qcow2 dist/new.qcow2
    """
    from vault_cube.image.inspect import diff

    differences = diff.diff(_space(), Path(first), Path(second))
    if differences:
        __context__["retcode"] = 1
    return differences or f"{first} and {second} are the same"


@_salt_errors
def verify(target=None):
    """
    Verify that the image is reproducible: build it again, from an empty cache and in other conditions, and compare.

    Returns the SHA-256 of each file and the conditions that were varied. Fails if the builds differ; the error names
    the files and bytes.

    CLI Example:

    .. code-block:: bash

        salt-call image.verify target=debian-13
    """
    from vault_cube.image.release import verify

    return verify.verify(_space(target, locked=True))


@_salt_errors
def release(key, target=None, check=False):
    """
    Put the verified image of a target into dist/release, with release notes and a signature. Returns the folder.

    Refuses, in one line: uncommitted changes, a pillar/local.sls, versions that differ, a changelog without the
    version, an image that is not up to date or differs from its lock or its commit, and an image without a successful
    ``image.verify``.

    key
        file of a private ssh key, or of a public key whose private key is in the ssh agent

    check
        only check what can be checked before the image is built

    CLI Example:

    .. code-block:: bash

        salt-call image.release ~/.ssh/id_ed25519 target=debian-12
    """
    from vault_cube.image.release import release

    space, signing_key = _space(target, locked=True), Path(key).expanduser()
    if check:
        release.ready(space, signing_key)
        return True
    return str(release.make(space, signing_key))


@_salt_errors
def bundle(packages, target=None):
    """
    Pack checkout, locks and stored files into one archive, from which the image can be built without a network.

    packages
        packages that a build needs on the builder itself, separated by spaces

    Returns the path of the archive.

    CLI Example:

    .. code-block:: bash

        salt-call image.bundle "mmdebstrap python3-venv" target=debian-12
    """
    from vault_cube.image import bundle

    return str(bundle.make(_space(target, locked=True), packages.split()))


@_salt_errors
def supplies(folder, wheels=True, target=None):
    """
    Copy the target's packages and wheels into a folder, from which a box without a network repairs itself.

    folder
        absolute path, such as a folder on a mounted stick; on the box it has to be at base:supplies
    wheels
        also copy the wheels of the Python environments, which are most of the size

    Returns the size in MB.

    CLI Example:

    .. code-block:: bash

        salt-call image.supplies /media/stick wheels=False target=debian-12
    """
    from vault_cube.image import supplies

    return round(supplies.make(_space(target, locked=True), Path(folder), wheels=wheels) / 1e6)


@_salt_errors
def clean_cache():
    """
    Remove all cached layers and all stored files of all targets. Returns how much space that freed.

    CLI Example:

    .. code-block:: bash

        salt-call image.clean_cache
    """
    from vault_cube.image.cache import evict

    return evict.clean(_space())


@_salt_errors
def enter(command=None, target=None):
    """
    Run a command, or an interactive shell, inside the tree of the built image, without booting it.

    The command runs at native speed and without a network. Its changes are discarded, except results of
    ``gpu.benchmark`` and ``gpu.stress``, which are kept in build/<target>/benchmarks. The exit code is the command's.

    command
        one string, run by sh; default: a shell

    CLI Example:

    .. code-block:: bash

        salt-call image.enter
        salt-call image.enter 'salt-call --local gpu.stress duration=60s'
    """
    from vault_cube.image.inside import enter as inside

    status = inside.enter(_space(target), ["sh", "-c", command] if command else [])
    __context__["retcode"] = status
    return status == 0


@_salt_errors
def benchmark(suite=None, quick=False, force=False, target=None):
    """
    Run ``gpu.benchmark`` inside the tree of the built image; results and report are kept in build/<target>/benchmarks.

    suite, quick, force
        passed to ``gpu.benchmark``

    Returns the result of ``gpu.benchmark``, the grain ``gpu_benchmark`` after it, and the folder of the results.

    CLI Example:

    .. code-block:: bash

        salt-call image.benchmark quick=True
    """
    from vault_cube.image.inside import enter as inside

    answers, status = inside.benchmark(_space(target), suite, quick=quick, force=force)
    __context__["retcode"] = status
    return answers


@_salt_errors
def vulnerabilities(data=None, target=None):
    """
    Compare a target's locked packages and wheels with vulnerability data from a file. Downloads nothing.

    data
        file: the JSON of Debian's security tracker (security-tracker.debian.org/tracker/data/json), or OSV's all.zip
        for PyPI or Debian

    CLI Example:

    .. code-block:: bash

        salt-call image.vulnerabilities data=tracker.json target=debian-12
    """
    from vault_cube.image.inputs import Locks
    from vault_cube.image.inspect import vulnerabilities

    space = _space(target)
    return vulnerabilities.report(space, Locks.read(space), Path(data).expanduser() if data else None)


@_salt_errors
def scan(target=None):
    """
    Scan the tree of the built image with OpenSCAP (CIS levels 1 and 2) and Lynis. Exit code 2 if a rule got worse.

    A rule that the image does not meet is in vault_cube/image/inspect/tailoring.yaml, with its reason; any other that
    fails is a fault. The scanners' reports are kept in build/<target>/scan. Needs oscap (package openscap-scanner).

    Returns a table; with --out=json or --out=yaml a dictionary as that of ``layer.check``.

    CLI Example:

    .. code-block:: bash

        salt-call image.scan target=debian-12
    """
    from vault_cube import terminal
    from vault_cube.image.inspect import scan

    report = scan.scan(_space(target))
    __context__["retcode"] = report.exit_code
    return report.table() if terminal.for_a_person(__opts__) else report.as_dict()
