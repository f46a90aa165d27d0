"""Which of this machine's apt sources are mirrors of an archive, with real apt on sources and indexes of the test."""

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
    """machine((file, uri, suite, (Origin, Label)), …) configures apt with these sources and their fetched indexes."""
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


def live(source, configured=None):
    return mirrors.live(source, configured or {}, "amd64")


def test_other_archives_with_a_similar_url_are_never_used(machine):
    ppa = "LP-PPA-deadsnakes"
    machine(
        ("deadsnakes", "https://ppa.launchpadcontent.net/deadsnakes/ppa/ubuntu", "noble", (ppa, "New Pythons")),
        ("docker", "https://download.docker.com/linux/ubuntu", "noble", ("Docker", "Docker CE")),
        ("esm", "https://esm.ubuntu.com/apps/ubuntu", "noble-apps-security", ("UbuntuESMApps", "UbuntuESMApps")),
        ("mate", "https://ppa.launchpadcontent.net/mate/ppa/ubuntu", "noble", ("LP-PPA-mate", "Ubuntu")),
        ("ubuntu", "http://near.example/ubuntu/", "noble", UBUNTU),
    )
    assert live(source()) == ["http://near.example/ubuntu", "http://own.example/ubuntu"]


def test_without_a_matching_archive_only_the_source_s_own_mirror_is_used(machine):
    machine(("docker", "https://download.docker.com/linux/ubuntu", "noble", ("Docker", "Docker CE")))
    assert live(source()) == ["http://own.example/ubuntu"]


def test_a_mirror_is_recognized_under_any_url(machine):
    machine(("ubuntu", "http://apt.company.example/mirror_1/noble-main", "noble", UBUNTU))
    assert live(source())[0] == "http://apt.company.example/mirror_1/noble-main"


def test_mirrors_of_another_architecture_are_not_used(machine):
    machine(("arm", "http://ports.ubuntu.com/ubuntu-ports", "noble", UBUNTU), architecture="arm64")
    assert live(source()) == ["http://own.example/ubuntu"]


def test_debian_and_its_security_archive_are_separate_archives(machine):
    machine(
        ("a", "http://near.example/debian-security", "bookworm-security", ("Debian", "Debian-Security")),
        ("b", "http://near.example/debian", "bookworm", DEBIAN),
        ("c", "http://near.example/backports", "bookworm-backports", ("Debian Backports", "Debian Backports")),
    )
    assert live(source("debian", ["bookworm"]))[:-1] == ["http://near.example/debian"]
    assert live(source("debian-security", ["bookworm-security"]))[:-1] == ["http://near.example/debian-security"]


def test_a_mirror_with_the_same_suite_is_first(machine):
    machine(
        ("a", "http://archive.example/ubuntu", "noble", UBUNTU),
        ("b", "http://security.example/ubuntu", "noble-security", UBUNTU),
    )
    assert live(source(suites=["noble-security"]))[0] == "http://security.example/ubuntu"
    assert live(source())[0] == "http://archive.example/ubuntu"


def test_a_mirror_of_another_release_is_used_as_well(machine):
    machine(("debian", "http://near.example/debian", "bookworm", DEBIAN))
    assert live(source("debian", ["trixie"]))[0] == "http://near.example/debian"


def test_a_source_whose_indexes_were_never_fetched_is_not_used(machine):
    machine(("ubuntu", "http://near.example/ubuntu", "noble", UBUNTU), fetched=False)
    assert live(source()) == ["http://own.example/ubuntu"]


def test_only_http_mirrors_are_used(machine):
    machine(("local", "file:///srv/ubuntu", "noble", UBUNTU))
    assert live(source()) == ["http://own.example/ubuntu"]


INLINE_KEY = """Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJKwYBBAHaRw8BAQdA
 -----END PGP PUBLIC KEY BLOCK-----
"""
REST = "Suites: noble\nComponents: main\n"
SOURCES = {
    "cdrom.list": "deb cdrom:[Debian GNU/Linux 12.5.0 _Bookworm_ - Official amd64 DVD Binary-1]/ noble main\n",
    "options.list": "deb [arch=amd64 signed-by=/no.gpg trusted=yes] http://options.example/ubuntu noble main # mine\n",
    "two.sources": "Types: deb\nURIs: http://one.example/ubuntu http://two.example/ubuntu/\n" + REST,
    "off.sources": "Enabled: no\nTypes: deb\nURIs: http://off.example/ubuntu\n" + REST,
    "source.list": "deb-src http://sources.example/ubuntu noble main\n",
    "inline.sources": f"Types: deb\nURIs: http://inline.example/ubuntu\n{REST}{INLINE_KEY}",
    "comment.list": "# deb http://comment.example/ubuntu noble main\n\n",
    "method.list": "deb mirror+file:/etc/apt/mirrors noble main\ndeb tor+http://onion.example/ubuntu noble main\n",
}


def test_sources_are_read_with_apt_s_own_grammar(machine, tmp_path):
    """Options, several URIs, disabled entries, keys in the entry, and schemes that only apt can fetch."""
    uris = [
        f"http://{name}.example/ubuntu" for name in ("options", "one", "two", "off", "inline", "comment", "sources")
    ]
    machine(*(("removed", uri, "noble", UBUNTU) for uri in uris))
    (tmp_path / "sources.list.d/removed.sources").unlink()
    for name, text in SOURCES.items():
        (tmp_path / "sources.list.d" / name).write_text(text)
    mirrors.of_machine.cache_clear()
    assert sorted(live(source())[:-1]) == [
        f"http://{name}.example/ubuntu" for name in ("inline", "one", "options", "two")
    ]


@pytest.mark.parametrize("name", SOURCES)
def test_no_entry_of_apt_s_sources_is_an_error(machine, tmp_path, name):
    machine()
    (tmp_path / "sources.list.d" / name).write_text(SOURCES[name])
    assert live(source()) == ["http://own.example/ubuntu"]


def test_the_pillar_s_mirror_is_the_only_one_for_locks_and_the_first_for_files(machine):
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


def test_the_origin_is_read_from_apt_s_fetched_release_files(machine, tmp_path, gpg, monkeypatch):
    """Run `apt-get update` with a signed archive, then look up its mirrors."""
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
