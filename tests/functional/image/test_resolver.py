"""Real apt against signed indexes: names that no component has, kernels out of step, and every way an archive fails."""

import re
from datetime import UTC, datetime

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
    """machine(uri, …) makes these the copies of Ubuntu's archive that this machine's apt uses."""

    def use(*uris, suite="noble", origin="Ubuntu"):
        found = tuple(mirrors.Repository(uri, origin, origin, suite, "amd64") for uri in uris)
        monkeypatch.setattr(mirrors, "of_machine", lambda: found)

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


# ---- names


def test_all_unknown_names_are_listed_with_their_keys_and_where_they_were_looked_for(archive):
    archive.add("app")
    archive.add("nvtop", component="multiverse")
    archive.publish(components=("main", "universe", "multiverse"))
    named = {
        "base:packages": ["app"],
        "validation:packages": ["nvtop", "htop"],
        "driver:held": ["htop", "app"],
        "driver:fallbacks": ["linux-modules-nvidia-595-open-generic"],
    }
    message = refused(archive.source(components=["main", "universe"]), ["app"], named=named)
    assert message.startswith("no such package in ubuntu noble noble-updates noble-security (main universe): ")
    assert (
        "htop (validation:packages, driver:held), linux-modules-nvidia-595-open-generic (driver:fallbacks), " in message
    )
    assert "nvtop (validation:packages): correct the name in the pillar" in message
    assert "app" not in message.partition("): ")[2].split(": correct")[0].split(", ")


def test_a_name_counts_as_known_in_any_suite_and_component(archive):
    archive.add("nvtop", component="universe", suite="-updates")
    archive.publish()
    assert resolve(archive.source(components=["main", "universe"]), ["nvtop"])["nvtop"] == "1.0"


def test_a_package_that_exists_only_as_a_dependency_is_unknown(archive):
    archive.add("app", depends="gone | lib")
    archive.add("lib")
    archive.publish()
    assert "gone (base:packages)" in refused(archive.source(), ["app", "gone"])


def test_a_package_that_another_one_provides_is_unknown_or_that_one(archive):
    archive.add("app", depends="lib\nProvides: application")
    archive.add("lib")
    archive.publish()
    assert set(resolve(archive.source(), ["application"])) == {"base-files", "app", "lib"}
    archive.add("other", depends="lib\nProvides: application")
    archive.publish()
    assert "application (base:packages)" in refused(archive.source(), ["application"])


def test_packages_that_do_not_fit_together_are_no_unknown_names(archive):
    archive.add("app", depends="lib (>= 2)")
    archive.add("lib")
    archive.publish()
    message = refused(archive.source(), ["app"])
    assert "no such package" not in message
    assert "app : Depends: lib (>= 2)" in message


def test_a_flat_repository_has_no_component_to_name(archive, tmp_path, gpg):
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
    """Publish a kernel as Ubuntu does, from two sources; `image` and `modules` tell which meta package names it."""
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
    """An archive with a kernel of the release pocket."""
    archive.add("linux-firmware")
    kernel(archive, 31, suite="")
    return archive


def kernels_of(versions):
    return {name for name in versions if re.match(r"linux-image-\d", name)}


def test_kernel_and_modules_in_step_give_the_newest(ubuntu):
    kernel(ubuntu, 142)
    kernel(ubuntu, 146)
    versions = resolve(ubuntu.publish().source(), META, kernel=META[0])
    assert kernels_of(versions) == {"linux-image-6.8.0-146-generic"}


def test_lagging_modules_take_the_kernel_back_to_theirs(ubuntu, capsys):
    kernel(ubuntu, 142, suite="-security")
    kernel(ubuntu, 146, modules=False)
    versions = resolve(ubuntu.publish().source(), META, kernel=META[0])
    assert kernels_of(versions) == {"linux-image-6.8.0-142-generic"}
    assert versions[META[0]] == versions[META[1]] == "6.8.0-142"
    assert "taking kernel 6.8.0-142-generic" in capsys.readouterr().err


def test_a_lagging_kernel_takes_the_modules_back_to_its_own(ubuntu):
    kernel(ubuntu, 142)
    kernel(ubuntu, 146, image=False)
    versions = resolve(ubuntu.publish().source(), META, kernel=META[0])
    assert kernels_of(versions) == {"linux-image-6.8.0-142-generic"}


def test_every_package_that_asks_for_the_kernel_goes_back_together(ubuntu):
    for abi, suite in ((142, "-security"), (146, "-updates")):
        version = f"6.8.0-{abi}"
        image = f"linux-image-{version}-generic"
        ubuntu.add("linux-generic", version, suite=suite, depends=f"{META[0]} (= {version}), {image}")
    kernel(ubuntu, 142, suite="-security")
    kernel(ubuntu, 146, modules=False)
    versions = resolve(ubuntu.publish().source(), [*META, "linux-generic"], kernel=META[0])
    assert versions["linux-generic"] == "6.8.0-142"
    assert kernels_of(versions) == {"linux-image-6.8.0-142-generic"}


def test_no_kernel_in_common_is_one_line_with_both_and_who_asks_for_them(ubuntu):
    # the archive has dropped the older linux-image-generic, and the modules are not there yet
    ubuntu.stanzas = {key: [s for s in entries if META[0] not in s] for key, entries in ubuntu.stanzas.items()}
    kernel(ubuntu, 142, image=False)
    kernel(ubuntu, 146, modules=False)
    message = refused(ubuntu.publish().source(), META, kernel=META[0])
    assert f"6.8.0-146-generic (by {META[0]}) and 6.8.0-142-generic (by {META[1]})" in message
    assert f"image:mirrors:ubuntu: {ubuntu.url}-snapshot/19691225T000000Z" in message


def test_modules_without_an_image_of_their_own_are_out_of_step_too(ubuntu):
    ubuntu.add("linux-modules-extra-6.8.0-99-generic")
    message = refused(ubuntu.publish().source(), [*META, "linux-modules-extra-6.8.0-99-generic"], kernel=META[0])
    assert "6.8.0-99-generic (by linux-modules-extra-6.8.0-99-generic)" in message


def test_a_kernel_package_that_brings_no_kernel_is_told(archive):
    archive.add("linux-image-generic")
    message = refused(archive.publish().source(), ["linux-image-generic"], kernel="linux-image-generic")
    assert message.startswith("linux-image-generic: brings no kernel")


def test_debians_kernels_are_known_by_their_names(archive):
    for version in ("6.12.41+deb13", "6.12.57+deb13"):
        archive.add(f"linux-image-{version}-cloud-amd64")
    archive.add("linux-image-cloud-amd64", depends="linux-image-6.12.57+deb13-cloud-amd64")
    archive.add("rescue", depends="linux-image-6.12.41+deb13-cloud-amd64")
    source = archive.publish().source()
    assert resolve(source, ["linux-image-cloud-amd64"], kernel="linux-image-cloud-amd64")
    message = refused(source, ["linux-image-cloud-amd64", "rescue"], kernel="linux-image-cloud-amd64")
    assert "6.12.57+deb13-cloud-amd64 (by linux-image-cloud-amd64) and 6.12.41+deb13-cloud-amd64 (by rescue)" in message


# ---- archives that fail


def test_a_mirror_without_the_suite(archive):
    archive.publish()
    message = refused(archive.source(suites=["resolute"]), [])
    assert f"archive ubuntu: {archive.url} has no suite resolute: correct the suites" in message
    assert "image:mirrors:ubuntu" in message


def test_a_component_that_the_archive_does_not_have(archive):
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


def test_no_signature_at_all_whatever_this_machine_allows(archive, tmp_path, monkeypatch):
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
    # a snapshot is old on purpose
    assert resolve(archive.source(snapshot=f"{archive.url}{{date}}"), []) == {"base-files": "1.0"}


def test_no_network(archive):
    message = refused(archive.source(mirror="http://127.0.0.1:1/ubuntu"), [])
    assert "http://127.0.0.1:1/ubuntu cannot be read (Could not connect to 127.0.0.1:1" in message
    assert "check this machine's network and proxy, or name a mirror in pillar key image:mirrors:ubuntu" in message


def test_a_server_that_forbids(archive, mirror):
    archive.publish()
    mirror.answers["ubuntu/dists/noble/InRelease"] = [servers.status(403)]
    assert f"{archive.url} cannot be read (403  Forbidden" in refused(archive.source(), [])


# ---- mirrors


def test_a_mirror_of_this_machine_that_lacks_the_suite_gives_way(archive, machine, tmp_path, gpg, mirror, capsys):
    archive.add("app")
    archive.publish()
    old = Indexes(mirror, gpg, "old", codename="jammy")
    old.publish()
    machine(old.url, suite="jammy")
    assert resolve(archive.source(), ["app"])["app"] == "1.0"
    said = capsys.readouterr().err
    assert f"ubuntu: {old.url} has no suite noble: taking {archive.url}" in said.replace("\n", " ")


def test_a_place_with_the_same_suite_and_another_key_gives_way(archive, machine, gpg, mirror):
    archive.add("app")
    archive.publish()
    false = Indexes(mirror, gpg, "false")
    false.add("app", "99")
    false.publish()
    machine(false.url)
    assert resolve(archive.source(), ["app"])["app"] == "1.0"


def test_no_other_place_is_tried_than_the_mirror_that_the_pillar_names(archive, mirror):
    archive.publish()
    message = refused(archive.source(), [], configured={"ubuntu": f"{mirror.url}/nowhere"})
    assert f"archive ubuntu: {mirror.url}/nowhere has no suite noble: " in message
    assert message.endswith("or correct pillar key image:mirrors:ubuntu")
    assert archive.url not in message


def test_all_places_that_failed_are_listed(archive, machine, mirror):
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
