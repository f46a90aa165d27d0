"""Which of this machine's apt sources are a copy of an archive: real apt, on sources and lists that a test makes."""

import subprocess

import mirror as servers
import pytest
from indexes import Indexes

from vault_cube.image.locks import mirrors
from vault_cube.settings.image import Source

UBUNTU = ("Ubuntu", "Ubuntu")
DEBIAN = ("Debian", "Debian")


def source(archive="ubuntu", suites=("noble", "noble-updates")):
    return Source.model_construct(
        archive=archive, mirror=f"http://own.example/{archive}", snapshot=f"http://dated.example/{archive}/{{date}}",
        suites=list(suites), components=["main"], keyring="/usr/share/keyrings/x.gpg",
    )  # fmt: skip


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine((file, uri, suite, (Origin, Label)), …) is a machine whose apt has these sources and has fetched them."""
    lists = tmp_path / "lists"
    (tmp_path / "sources.list.d").mkdir()
    lists.mkdir()
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::Parts "/dev/null"; Dir::Etc::SourceList "/dev/null"; Dir::State::Lists "{lists}";\n'
        f'Dir::Etc::SourceParts "{tmp_path}/sources.list.d"; APT::Architecture "amd64";\n'
        'APT::Architectures {"amd64"; "arm64";};\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))

    def have(*entries, fetched=True, architecture="amd64"):
        mirrors.of_machine.cache_clear()
        for file, uri, suite, (origin, label) in entries:
            with (tmp_path / "sources.list.d" / f"{file}.sources").open("a") as out:
                out.write(
                    f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nArchitectures: {architecture}\n\n"
                )
            if fetched:
                name = f"{uri.split('://')[1].rstrip('/').replace('_', '%5f').replace('/', '_')}_dists_{suite}"
                index = f"main/binary-{architecture}/Packages"
                (lists / f"{name}_Release").write_text(
                    f"Origin: {origin}\nLabel: {label}\nSuite: {suite}\nCodename: {suite.partition('-')[0]}\n"
                    f"Architectures: {architecture}\nComponents: main\nSHA256:\n {'0' * 64} 0 {index}\n"
                )
                (lists / f"{name}_{index.replace('/', '_')}").touch()

    yield have
    mirrors.of_machine.cache_clear()


def live(asked, configured=None):
    return mirrors.live(asked, configured or {}, "amd64")


def test_other_archives_whose_address_ends_alike_are_never_taken(machine):
    ppa = "LP-PPA-deadsnakes"
    machine(
        ("deadsnakes", "https://ppa.launchpadcontent.net/deadsnakes/ppa/ubuntu", "noble", (ppa, "New Pythons")),
        ("docker", "https://download.docker.com/linux/ubuntu", "noble", ("Docker", "Docker CE")),
        ("esm", "https://esm.ubuntu.com/apps/ubuntu", "noble-apps-security", ("UbuntuESMApps", "UbuntuESMApps")),
        ("mate", "https://ppa.launchpadcontent.net/mate/ppa/ubuntu", "noble", ("LP-PPA-mate", "Ubuntu")),
        ("ubuntu", "http://near.example/ubuntu/", "noble", UBUNTU),
    )
    assert live(source()) == ["http://near.example/ubuntu", "http://own.example/ubuntu"]


def test_a_machine_with_nothing_but_other_archives_has_no_copy(machine):
    machine(("docker", "https://download.docker.com/linux/ubuntu", "noble", ("Docker", "Docker CE")))
    assert live(source()) == ["http://own.example/ubuntu"]


def test_a_copy_is_known_under_any_address(machine):
    machine(("ubuntu", "http://apt.company.example/mirror_1/noble-main", "noble", UBUNTU))
    assert live(source())[0] == "http://apt.company.example/mirror_1/noble-main"


def test_ports_of_another_architecture_are_not_taken(machine):
    machine(("arm", "http://ports.ubuntu.com/ubuntu-ports", "noble", UBUNTU), architecture="arm64")
    assert live(source()) == ["http://own.example/ubuntu"]


def test_debian_and_its_security_archive_are_two(machine):
    machine(
        ("a", "http://near.example/debian-security", "bookworm-security", ("Debian", "Debian-Security")),
        ("b", "http://near.example/debian", "bookworm", DEBIAN),
        ("c", "http://near.example/backports", "bookworm-backports", ("Debian Backports", "Debian Backports")),
    )
    assert live(source("debian", ["bookworm"]))[:-1] == ["http://near.example/debian"]
    assert live(source("debian-security", ["bookworm-security"]))[:-1] == ["http://near.example/debian-security"]


def test_the_place_that_this_machine_uses_for_the_suite_comes_first(machine):
    machine(
        ("a", "http://archive.example/ubuntu", "noble", UBUNTU),
        ("b", "http://security.example/ubuntu", "noble-security", UBUNTU),
    )
    assert live(source(suites=["noble-security"]))[0] == "http://security.example/ubuntu"
    assert live(source())[0] == "http://archive.example/ubuntu"


def test_a_machine_of_another_release_still_knows_a_place(machine):
    machine(("debian", "http://near.example/debian", "bookworm", DEBIAN))
    assert live(source("debian", ["trixie"]))[0] == "http://near.example/debian"


def test_what_was_never_fetched_is_not_taken(machine):
    machine(("ubuntu", "http://near.example/ubuntu", "noble", UBUNTU), fetched=False)
    assert live(source()) == ["http://own.example/ubuntu"]


def test_only_what_speaks_http_is_taken(machine):
    machine(("local", "file:///srv/ubuntu", "noble", UBUNTU))
    assert live(source()) == ["http://own.example/ubuntu"]


def test_the_pillars_mirror_is_the_only_one_for_a_lock_and_the_first_for_files(machine):
    machine(("ubuntu", "http://near.example/ubuntu", "noble", UBUNTU))
    configured = {"ubuntu": "http://chosen.example/ubuntu"}
    assert live(source(), configured) == ["http://chosen.example/ubuntu"]
    both = [source(), source(suites=["noble-security"]).model_copy(update={"mirror": "http://security.example/ubuntu"})]
    assert mirrors.all_places(both, configured, "amd64", "20261124T000000Z") == [
        "http://chosen.example/ubuntu",
        "http://near.example/ubuntu",
        "http://own.example/ubuntu",
        "http://security.example/ubuntu",
        "http://dated.example/ubuntu/20261124T000000Z",
    ]


def test_apt_itself_tells_the_origin_of_what_it_fetched(machine, tmp_path, gpg, monkeypatch):
    """The same through apt-get update of a signed archive."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "served").mkdir()
    with servers.running(tmp_path / "served") as running:
        archive = Indexes(running, gpg).publish()
        (tmp_path / "sources.list.d/near.list").write_text(
            f"deb [arch=amd64 signed-by={archive.key}] {archive.url} noble main\n"
        )
        options = ["-oAPT::Sandbox::User=root", f"-oDir::Cache={tmp_path}/cache", f"-oDir::State={tmp_path}/state"]
        subprocess.run(["apt-get", "-qq", *options, "update"], check=True)
        mirrors.of_machine.cache_clear()
        assert live(source())[0] == archive.url
