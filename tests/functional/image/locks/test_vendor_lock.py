"""`make lock` with a vendor's repository and key: real apt and signatures, and stand-in packages."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import pytest
from vendor import Vendor

from vault_cube.errors import VaultCubeError
from vault_cube.image.locks import resolve, resolver, vendors
from vault_cube.image.locks.aptlock import Deb
from vault_cube.image.store import Store
from vault_cube.settings.image import Source
from vault_cube.settings.repository import Repository


@pytest.fixture
def distribution(tmp_path, gpg):
    """A stand-in for Debian's archive, with an essential package, and a package that the vendor has, too."""
    (tmp_path / "distribution").mkdir()
    archive = Vendor(tmp_path / "distribution", gpg, "distribution")
    archive.package("base-files", "1", "Essential: yes\n")
    archive.package("openssh-server", "1.0")
    archive.publish()
    return archive


@pytest.fixture
def vendor(tmp_path, gpg):
    (tmp_path / "vendor").mkdir()
    archive = Vendor(tmp_path / "vendor", gpg)
    for name, version in (("toolkit", "1.0"), ("toolkit", "2.0"), ("openssh-server", "99")):
        archive.package(name, version)
    archive.publish()
    return archive


@pytest.fixture
def address(vendor):
    """Address of the vendor's repository over HTTP, because apt's pins distinguish archives by host."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=vendor.repo)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def space(tmp_path, vendor, address):
    """space(version, fingerprint) returns the parts of a workspace that a vendor's lock reads."""

    def make(version=None, fingerprint=None):
        repository = Repository.model_validate({
            "name": "vendor", "uri": address, "suite": "./", "components": [],
            "keyring": {"url": "https://vendor.example/key.asc", "sha256": None,
                        "fingerprint": fingerprint or vendor.fingerprint},
            "pin": {"packages": ["toolkit"], "version": version, "origin": "127.0.0.1"},
        })  # fmt: skip
        keyring = repository.keyring.model_copy(update={"url": f"file://{vendor.key}"})
        repository = repository.model_copy(update={"keyring": keyring})
        settings = SimpleNamespace(
            driver=SimpleNamespace(repositories=[]), runtime=SimpleNamespace(repositories=[repository])
        )
        (tmp_path / "locks").mkdir(exist_ok=True)
        return SimpleNamespace(settings=settings, store=tmp_path / "store", locks=tmp_path / "locks")

    return make


def resolved(space, distribution, folder, packages):
    vendors.lay_out(Store(space.store), vendors.lock(space), folder)
    own = Source.model_construct(
        archive="distribution", mirror=f"file://{distribution.repo}", snapshot=None, suites=["./"], components=[],
        keyring=str(distribution.key),
    )  # fmt: skip
    pins = vendors.preferences(vendors.repositories(space))
    lock = resolver.resolve(
        [("root", []), ("runtime", packages)], [own, *vendors.sources(space, folder)], {}, "amd64", 0, pins=pins
    )
    return {deb.name: (deb.version, deb.archive, deb.layer) for deb in lock.debs}


def test_only_pinned_packages_come_from_the_vendor(space, distribution, tmp_path):
    packages = resolved(space(), distribution, tmp_path / "keys", ["toolkit", "openssh-server"])
    assert packages == {
        "base-files": ("1", "distribution", "root"),
        "toolkit": ("2.0", "vendor", "runtime"),
        "openssh-server": ("1.0", "distribution", "runtime"),
    }


def test_a_pinned_version_is_locked_although_a_newer_one_exists(space, distribution, tmp_path):
    assert resolved(space("1.0"), distribution, tmp_path / "keys", ["toolkit"])["toolkit"][0] == "1.0"


def test_an_unpinned_package_of_the_vendor_is_not_used(space, distribution, tmp_path):
    (distribution.repo / "openssh-server_1.0_amd64.deb").unlink()
    distribution.publish()
    with pytest.raises(VaultCubeError, match="openssh-server"):
        resolved(space(), distribution, tmp_path / "keys", ["openssh-server"])


def test_a_key_with_another_fingerprint_is_not_locked(space, vendor):
    other = vendor.gpg.key("impostor")[1]
    with pytest.raises(VaultCubeError, match=f"contains the key {vendor.fingerprint}, but the pillar has {other}"):
        vendors.lock(space(fingerprint=other))


def test_an_unavailable_key_is_reported_in_one_line(space, vendor):
    vendor.key.unlink()
    with pytest.raises(VaultCubeError, match="cannot be fetched") as error:
        vendors.lock(space())
    assert len(str(error.value).splitlines()) == 1


def test_a_locked_key_is_found_in_the_store_and_a_damaged_lock_is_named(space, tmp_path, vendor):
    here = space()
    file = here.locks / "keyrings.lock"
    with pytest.raises(VaultCubeError, match="this lock does not exist yet"):
        vendors.read(here)
    file.write_text(vendors.text(vendors.lock(here)))
    vendors.lay_out(Store(here.store), vendors.read(here), tmp_path / "keys")
    assert (tmp_path / "keys/vendor.asc").read_bytes() == vendor.key.read_bytes()
    assert [wanted.sha256 for wanted in vendors.wanted(here, vendors.read(here))] == [vendors.read(here)["vendor"][0]]
    file.write_text(file.read_text().replace("vendor ", "vender "))
    with pytest.raises(VaultCubeError, match=r"keyrings\.lock"):
        vendors.read(here)


def deb(name, archive):
    return Deb("runtime", name, "99", "amd64", "-", archive, 1, "0" * 64, f"{name}.deb")


@pytest.mark.parametrize(("names", "archive", "refused"), [
    (["toolkit"], "vendor", None),
    (["toolkit", "openssh-server"], "vendor", "openssh-server 99"),
    (["toolkit-extra"], "vendor", "toolkit-extra 99"),
    (["openssh-server"], "distribution", None),
])  # fmt: skip
def test_only_pinned_packages_come_from_a_vendor_s_mirror(space, names, archive, refused):
    """apt's pins do not apply to a mirror, because they name the vendor's host."""
    repositories = vendors.repositories(space())
    debs = [deb(name, archive) for name in names]
    if refused is None:
        vendors.check_pins(repositories, debs)
    else:
        with pytest.raises(VaultCubeError, match=f"{refused} comes from repository vendor, whose pin does not name it"):
            vendors.check_pins(repositories, debs)


def test_an_unpinned_package_of_a_mirror_is_not_locked(space, distribution, address, tmp_path):
    elsewhere = space()
    (repository,) = elsewhere.settings.runtime.repositories
    pin = repository.pin.model_copy(update={"origin": "vendor.example"})
    repository = repository.model_copy(update={"uri": "https://vendor.example", "pin": pin})
    elsewhere.settings.runtime.repositories = [repository]
    vendors.lay_out(Store(elsewhere.store), vendors.lock(elsewhere), tmp_path / "keys")
    own = Source.model_construct(
        archive="distribution", mirror=f"file://{distribution.repo}", snapshot=None, suites=["./"], components=[],
        keyring=str(distribution.key),
    )  # fmt: skip
    request = resolve.Request(
        "target/apt.lock", [("runtime", ["toolkit", "openssh-server"])],
        [own, *vendors.sources(elsewhere, tmp_path / "keys")], "amd64", "trixie", {}, [repository],
    )  # fmt: skip
    with pytest.raises(VaultCubeError, match=r"locks/target/apt\.lock: openssh-server 99 comes from repository vendor"):
        request.resolve({"vendor": address}, 0)
