"""Resolving with real apt on signed indexes: unknown names, mismatched kernel packages, and faulty archives."""

import re
from datetime import UTC, datetime
from pathlib import Path

import mirror as servers
import pytest
from indexes import Indexes

from vault_cube.errors import VaultCubeError
from vault_cube.image.locks import mirrors, resolver


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "served").mkdir()
    with servers.running(tmp_path / "served") as running:
        yield running


@pytest.fixture
def machine(monkeypatch):
    """machine(uri, …) makes these URLs the mirrors of Ubuntu's archive in this machine's apt configuration."""

    def use(*uris, suite="noble", origin="Ubuntu"):
        repositories = tuple(mirrors.Repository(uri, origin, origin, suite, "amd64") for uri in uris)
        monkeypatch.setattr(mirrors, "of_machine", lambda: repositories)

    use()
    return use


@pytest.fixture
def archive(mirror, gpg, machine):
    return Indexes(mirror, gpg)


def resolve(source, packages, *more, configured=None, **options):
    lock = resolver.resolve(
        [("root", []), ("base", packages)], [source, *more], configured or {}, "amd64", 0, **options
    )
    return {deb.name: deb.version for deb in lock.debs}


def refused(*arguments, **options):
    with pytest.raises(VaultCubeError) as caught:
        resolve(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("folder", ["a checkout", "with, comma", "with [brackets]", "100%20"])
def test_a_keyring_may_be_in_any_folder(archive, tmp_path, folder):
    archive.add("app")
    archive.publish()
    source = archive.source()
    (tmp_path / folder).mkdir()
    keyring = tmp_path / folder / Path(source.keyring).name
    keyring.write_bytes(Path(source.keyring).read_bytes())
    assert resolve(source.model_copy(update={"keyring": str(keyring)}), ["app"])["app"] == "1.0"


# ---- names


def test_all_unknown_names_are_listed_with_their_keys_and_the_archives_searched(archive):
    archive.add("app")
    archive.add("nvtop", component="multiverse")
    archive.publish(components=("main", "universe", "multiverse"))
    named = {
        "base:packages": ["app"],
        "validation:packages": ["nvtop", "htop"],
        "driver:held": ["htop", "app"],
        "driver:packages": ["linux-modules-nvidia-595-open-generic"],
    }
    message = refused(archive.source(components=["main", "universe"]), ["app"], named=named)
    assert message.startswith("no such package in ubuntu noble noble-updates noble-security (main universe): ")
    assert (
        "htop (validation:packages, driver:held), linux-modules-nvidia-595-open-generic (driver:packages), " in message
    )
    assert "nvtop (validation:packages): correct the name in the pillar" in message
    assert "app" not in message.partition("): ")[2].split(": correct")[0].split(", ")


def test_a_package_may_be_in_any_suite_and_component(archive):
    archive.add("nvtop", component="universe", suite="-updates")
    archive.publish()
    assert resolve(archive.source(components=["main", "universe"]), ["nvtop"])["nvtop"] == "1.0"


def test_a_name_that_only_dependencies_mention_is_unknown(archive):
    archive.add("app", depends="gone | lib")
    archive.add("lib")
    archive.publish()
    assert "gone (base:packages)" in refused(archive.source(), ["app", "gone"])


def test_a_virtual_package_needs_exactly_one_provider(archive):
    archive.add("app", depends="lib\nProvides: application")
    archive.add("lib")
    archive.publish()
    assert set(resolve(archive.source(), ["application"])) == {"base-files", "app", "lib"}
    archive.add("other", depends="lib\nProvides: application")
    archive.publish()
    assert "application (base:packages)" in refused(archive.source(), ["application"])


def test_unmet_dependencies_are_not_reported_as_unknown_names(archive):
    archive.add("app", depends="lib (>= 2)")
    archive.add("lib")
    archive.publish()
    message = refused(archive.source(), ["app"])
    assert "no such package" not in message
    assert "app : Depends: lib (>= 2)" in message


def test_a_flat_repository_is_listed_without_components(archive, tmp_path, gpg):
    archive.publish()
    flat = tmp_path / "served/flat"
    flat.mkdir()
    (flat / "Packages").touch()
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    release = f"Origin: V\nDate: {datetime.now(UTC):%a, %d %b %Y %H:%M:%S} GMT\nSHA256:\n {empty} 0 Packages\n"
    signed = gpg("--local-user", archive.fingerprint, "--clearsign", "--output", "-", data=release.encode())
    (flat / "InRelease").write_bytes(signed)
    vendor = archive.source(
        archive="vendor", mirror=archive.url.replace("ubuntu", "flat"), suites=["./"], components=[]
    )
    assert "noble-security (main), vendor ./: toolkit (base:packages)" in refused(archive.source(), ["toolkit"], vendor)


# ---- kernels

META = ["linux-image-generic", "linux-modules-nvidia-580-open-generic"]


def kernel(archive, abi, suite="-updates", image=True, modules=True):
    """Publish a kernel as Ubuntu does, from two sources. image, modules: whether that meta package needs it."""
    version, full = f"6.8.0-{abi}", f"6.8.0-{abi}-generic"
    archive.add(f"linux-modules-{full}", version, suite=suite)
    archive.add(f"linux-image-{full}", version, suite=suite, depends=f"linux-modules-{full}")
    archive.add(f"linux-signatures-nvidia-{full}", version, suite=suite, depends=f"linux-image-{full} (= {version})")
    archive.add(
        f"linux-modules-nvidia-580-open-{full}", version, suite=suite, depends=f"linux-signatures-nvidia-{full}"
    )
    if image:
        archive.add(META[0], version, suite=suite, depends=f"linux-image-{full} (= {version}), linux-firmware")
    if modules:
        archive.add(META[1], version, suite=suite, depends=f"linux-modules-nvidia-580-open-{full}")


@pytest.fixture
def ubuntu(archive):
    """An archive with a kernel in its release pocket."""
    archive.add("linux-firmware")
    kernel(archive, 31, suite="")
    return archive


def kernels_of(versions):
    return {name for name in versions if re.match(r"linux-image-\d", name)}


def test_matching_kernel_and_modules_give_the_newest_version(ubuntu):
    kernel(ubuntu, 142)
    kernel(ubuntu, 146)
    versions = resolve(ubuntu.publish().source(), META, kernel=META[0])
    assert kernels_of(versions) == {"linux-image-6.8.0-146-generic"}


def test_with_older_modules_the_older_kernel_is_chosen(ubuntu, capsys):
    kernel(ubuntu, 142, suite="-security")
    kernel(ubuntu, 146, modules=False)
    versions = resolve(ubuntu.publish().source(), META, kernel=META[0])
    assert kernels_of(versions) == {"linux-image-6.8.0-142-generic"}
    assert versions[META[0]] == versions[META[1]] == "6.8.0-142"
    assert "using kernel 6.8.0-142-generic" in capsys.readouterr().err


def test_with_an_older_kernel_the_older_modules_are_chosen(ubuntu):
    kernel(ubuntu, 142)
    kernel(ubuntu, 146, image=False)
    versions = resolve(ubuntu.publish().source(), META, kernel=META[0])
    assert kernels_of(versions) == {"linux-image-6.8.0-142-generic"}


def test_all_packages_that_depend_on_the_kernel_get_the_same_version(ubuntu):
    for abi, suite in ((142, "-security"), (146, "-updates")):
        version = f"6.8.0-{abi}"
        image = f"linux-image-{version}-generic"
        ubuntu.add("linux-generic", version, suite=suite, depends=f"{META[0]} (= {version}), {image}")
    kernel(ubuntu, 142, suite="-security")
    kernel(ubuntu, 146, modules=False)
    versions = resolve(ubuntu.publish().source(), [*META, "linux-generic"], kernel=META[0])
    assert versions["linux-generic"] == "6.8.0-142"
    assert kernels_of(versions) == {"linux-image-6.8.0-142-generic"}


def test_without_a_common_kernel_the_error_lists_both_and_the_packages_that_need_them(ubuntu):
    # the archive has removed the older linux-image-generic, and has no modules for the newer one yet
    ubuntu.stanzas = {key: [s for s in entries if META[0] not in s] for key, entries in ubuntu.stanzas.items()}
    kernel(ubuntu, 142, image=False)
    kernel(ubuntu, 146, modules=False)
    message = refused(ubuntu.publish().source(), META, kernel=META[0])
    assert f"6.8.0-146-generic (by {META[0]}) and 6.8.0-142-generic (by {META[1]})" in message
    assert f"image:mirrors:ubuntu: {ubuntu.url}-snapshot/19691225T000000Z" in message


def test_modules_without_a_matching_image_are_refused(ubuntu):
    ubuntu.add("linux-modules-extra-6.8.0-99-generic")
    message = refused(ubuntu.publish().source(), [*META, "linux-modules-extra-6.8.0-99-generic"], kernel=META[0])
    assert "6.8.0-99-generic (by linux-modules-extra-6.8.0-99-generic)" in message


def test_a_kernel_package_without_a_kernel_is_refused(archive):
    archive.add("linux-image-generic")
    message = refused(archive.publish().source(), ["linux-image-generic"], kernel="linux-image-generic")
    assert message.startswith("linux-image-generic: installs no kernel")


def test_debian_s_kernel_packages_are_recognized(archive):
    for version in ("6.12.41+deb13", "6.12.57+deb13"):
        archive.add(f"linux-image-{version}-cloud-amd64")
    archive.add("linux-image-cloud-amd64", depends="linux-image-6.12.57+deb13-cloud-amd64")
    archive.add("rescue", depends="linux-image-6.12.41+deb13-cloud-amd64")
    source = archive.publish().source()
    assert resolve(source, ["linux-image-cloud-amd64"], kernel="linux-image-cloud-amd64")
    message = refused(source, ["linux-image-cloud-amd64", "rescue"], kernel="linux-image-cloud-amd64")
    assert "6.12.57+deb13-cloud-amd64 (by linux-image-cloud-amd64) and 6.12.41+deb13-cloud-amd64 (by rescue)" in message


# ---- faulty archives


def test_a_mirror_without_the_suite(archive):
    archive.publish()
    message = refused(archive.source(suites=["resolute"]), [])
    assert f"archive ubuntu: {archive.url} has no suite resolute: correct the suites" in message
    assert "image:mirrors:ubuntu" in message


def test_a_missing_component(archive):
    archive.publish()
    message = refused(archive.source(components=["main", "restricted"]), [])
    assert f"{archive.url} has no component restricted: correct the components" in message


def test_a_signature_by_another_key(archive, gpg):
    archive.publish(signer=gpg.key("impostor")[1])
    assert f"{archive.url} is not signed by a key of {archive.key}" in refused(archive.source(), [])


def test_a_changed_release_file(archive):
    archive.publish()
    file = archive.folder / "dists/noble/InRelease"
    file.write_text(file.read_text().replace("Origin: Ubuntu", "Origin: Mallory"))
    assert f"{archive.url} is not signed by a key of {archive.key}" in refused(archive.source(), [])


def test_an_unsigned_archive_is_refused_even_if_this_machine_allows_it(archive, tmp_path, monkeypatch):
    archive.publish()
    for suite in archive.source().suites:
        file = archive.folder / "dists" / suite / "InRelease"
        release = file.read_text().split("\n\n", 1)[1].partition("-----BEGIN PGP SIGNATURE")[0]
        file.with_name("Release").write_text(release)
        file.unlink()
    config = tmp_path / "apt.conf"
    config.write_text(
        'Dir::Etc::Parts "/dev/null"; Acquire::AllowInsecureRepositories "true";'
        'APT::Get::AllowUnauthenticated "true";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(config))
    assert f"{archive.url} is not signed" in refused(archive.source(), [])


def test_an_expired_index(archive, tmp_path, monkeypatch):
    config = tmp_path / "apt.conf"
    config.write_text('Dir::Etc::Parts "/dev/null"; Acquire::Check-Valid-Until "true";\n')
    monkeypatch.setenv("APT_CONFIG", str(config))
    archive.publish(days=-1)
    assert f"{archive.url} has an expired index" in refused(archive.source(), [])
    # a snapshot may have expired
    assert resolve(archive.source(snapshot=f"{archive.url}{{date}}"), []) == {"base-files": "1.0"}


def test_an_unreachable_archive(archive):
    message = refused(archive.source(mirror="http://127.0.0.1:1/ubuntu"), [])
    assert "http://127.0.0.1:1/ubuntu cannot be read (Could not connect to 127.0.0.1:1" in message
    assert "check this machine's network and proxy, or name a mirror in pillar key image:mirrors:ubuntu" in message


def test_a_server_that_returns_403(archive, mirror):
    archive.publish()
    mirror.answers["ubuntu/dists/noble/InRelease"] = [servers.status(403)]
    assert f"{archive.url} cannot be read (403  Forbidden" in refused(archive.source(), [])


# ---- mirrors


def test_a_mirror_without_the_suite_is_skipped(archive, machine, tmp_path, gpg, mirror, capsys):
    archive.add("app")
    archive.publish()
    old = Indexes(mirror, gpg, "old", codename="jammy")
    old.publish()
    machine(old.url, suite="jammy")
    assert resolve(archive.source(), ["app"])["app"] == "1.0"
    output = capsys.readouterr().err
    assert f"ubuntu: {old.url} has no suite noble: using {archive.url} instead" in output.replace("\n", " ")


def test_a_mirror_signed_by_another_key_is_skipped(archive, machine, gpg, mirror):
    archive.add("app")
    archive.publish()
    false = Indexes(mirror, gpg, "false")
    false.add("app", "99")
    false.publish()
    machine(false.url)
    assert resolve(archive.source(), ["app"])["app"] == "1.0"


def test_only_the_mirror_in_the_pillar_is_tried(archive, mirror):
    archive.publish()
    message = refused(archive.source(), [], configured={"ubuntu": f"{mirror.url}/nowhere"})
    assert f"archive ubuntu: {mirror.url}/nowhere has no suite noble: " in message
    assert message.endswith("or correct pillar key image:mirrors:ubuntu")
    assert archive.url not in message


def test_all_failed_mirrors_are_listed(archive, machine, mirror):
    machine(f"{mirror.url}/a", f"{mirror.url}/b")
    message = refused(archive.source(), [])
    for place in (f"{mirror.url}/a", f"{mirror.url}/b", archive.url):
        assert f"{place} has no suite noble" in message
    assert message.count("correct the suites") == 1


def test_phased_updates_are_locked_on_every_machine(archive):
    archive.add("app", "1.0")
    archive.add("app", "1.1", suite="-updates", depends="base-files\nPhased-Update-Percentage: 0")
    archive.publish()
    assert resolve(archive.source(), ["app"])["app"] == "1.1"
