"""The states' configuration of a vendor's repository, with the real apt and real signatures.

A local repository with stand-in packages replaces the vendor's; salt/driver/repository.jinja renders the source, key
and pin files.
"""

import hashlib
import json
import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]


@pytest.fixture
def vendor(tmp_path, gpg):
    return Vendor(tmp_path, gpg)


class Vendor:
    """A signed flat repository, and a configuration of apt that reads no other."""

    def __init__(self, folder, gpg, name="vendor"):
        self.folder, self.gpg = folder, gpg
        self.repo = folder / "repo"
        self.repo.mkdir()
        self.root = folder / "apt"
        for place in ("etc/sources.list.d", "etc/preferences.d", "lists/partial", "cache/archives/partial", "keyrings"):
            (self.root / place).mkdir(parents=True)
        (self.root / "status").touch()
        self.key, self.fingerprint = gpg.key(name)

    def package(self, name, version, more=""):
        """Build a real, empty deb. more: further lines of its control file."""
        tree = self.folder / f"{name}-{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
            f"Maintainer: A <a@vendor.example>\nDescription: stand-in\n{more}"
        )
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-b", tree, self.repo / f"{name}_{version}_amd64.deb"],
            check=True,
            capture_output=True,
        )

    def publish(self, signer=None, days=7, born=None):
        """Write Packages and a signed Release. signer: fingerprint or nobody. days: validity. born: time of signing."""
        stanzas = []
        for deb in sorted(self.repo.glob("*.deb")):
            control = subprocess.run(["dpkg-deb", "-f", deb], capture_output=True, text=True, check=True).stdout
            data = deb.read_bytes()
            stanzas.append(
                f"{control}Filename: ./{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
            )
        packages = "\n".join(stanzas).encode()
        (self.repo / "Packages").write_bytes(packages)
        now = datetime.now(UTC)
        release = (
            f"Origin: Vendor\nDate: {format_datetime(now - timedelta(days=14), usegmt=True)}\n"
            f"Valid-Until: {format_datetime(now + timedelta(days=days), usegmt=True)}\n"
            f"SHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n"
        )
        (self.repo / "Release").write_text(release)
        if signer != "nobody":
            clock = ["--faked-system-time", born] if born else []
            signed = self.gpg(
                *clock,
                "--local-user",
                signer or self.fingerprint,
                "--clearsign",
                "--output",
                "-",
                data=release.encode(),
            )
            (self.repo / "InRelease").write_bytes(signed)

    def configure(self, packages, version=None, key=None):
        """Write the files that the states render where this apt reads them. key: keyring; None: the vendor's."""
        repository = {
            "name": "vendor", "uri": f"file://{self.repo}", "suite": "./", "components": [],
            "keyring": {"url": "https://vendor.example/key.asc", "sha256": None, "fingerprint": self.fingerprint},
            "pin": {"packages": packages, "version": version, "origin": ""},
        }  # fmt: skip
        files = rendered(self.folder, repository)
        keyring = self.root / "keyrings/vendor.asc"
        for name, text in files.items():
            place = self.root / name.replace("/etc/apt", "etc").lstrip("/")
            place.write_text(text.replace("/usr/share/keyrings/vendor.asc", str(keyring)))
        if key != b"":
            keyring.write_bytes(self.key.read_bytes() if key is None else key)
        (self.root / "apt.conf").write_text(
            f'Dir::Etc "{self.root}/etc"; Dir::Etc::SourceList "-"; Dir::Etc::Trusted "-";\n'
            'Dir::Etc::TrustedParts "-";\n'
            f'Dir::State::Lists "{self.root}/lists"; Dir::State::Status "{self.root}/status";\n'
            f'Dir::Cache "{self.root}/cache";\n'
            'APT::Sandbox::User "root"; APT::Architecture "amd64"; Acquire::Languages "none"; Dir::Log "/dev/null";\n'
        )

    def apt(self, *words):
        ran = subprocess.run(
            ["env", "LC_ALL=C", f"APT_CONFIG={self.root}/apt.conf", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return ran.returncode, ran.stdout + ran.stderr

    def update(self):
        return self.apt("apt-get", "update", "--error-on=any")

    def candidate(self, package):
        output = self.apt("apt-cache", "policy", package)[1]
        return next((line.split()[1] for line in output.splitlines() if line.strip().startswith("Candidate:")), None)


def rendered(folder, repository):
    """Return the files that salt/runtime/repositories.sls would write for a repository: path → text."""
    conf = folder / "conf"
    conf.mkdir()
    own = {name: str(folder / "salt" / name) for name in ("cachedir", "pki_dir", "sock_dir")}
    own |= {
        "root_dir": str(folder / "salt"),
        "log_file": str(folder / "salt/log"),
        "id": "test",
        "file_client": "local",
    }
    own |= {"file_roots": {"base": [str(TOP / "salt")]}, "enable_fqdns_grains": False}
    (conf / "minion").write_text(json.dumps(own))
    pillar = {"target": {"architecture": "amd64"}, "runtime": {"repositories": [repository]}}
    call = [TOP / ".venv/bin/salt-call", "--local", "-c", conf, "--out=json", "state.show_sls", "runtime.repositories"]
    ran = subprocess.run(
        [*call, f"pillar={json.dumps(pillar)}"], capture_output=True, text=True, check=True, cwd=folder
    )
    files = {}
    for state in json.loads(ran.stdout)["local"].values():
        values = {key: value for part in state.get("file", []) if isinstance(part, dict) for key, value in part.items()}
        if values:
            files[values["name"]] = values["contents"]
    assert set(files) == {"/etc/apt/sources.list.d/vendor.sources", "/etc/apt/preferences.d/vendor"}
    return files


def test_with_a_good_signature_only_the_pinned_packages_are_available(vendor):
    vendor.package("toolkit", "1.0")
    vendor.package("libtoolkit1", "1.0")
    vendor.package("openssh-server", "99:99")
    vendor.publish()
    vendor.configure(["toolkit", "libtoolkit*"])
    status, output = vendor.update()
    assert status == 0, output
    assert vendor.candidate("toolkit") == "1.0"
    assert vendor.candidate("libtoolkit1") == "1.0"
    assert vendor.candidate("openssh-server") == "(none)"


def test_a_pinned_version_stays_although_a_newer_one_exists(vendor):
    for version in ("1.0", "2.0"):
        vendor.package("toolkit", version)
    vendor.publish()
    vendor.configure(["toolkit"], version="1.0")
    assert vendor.update()[0] == 0
    assert vendor.candidate("toolkit") == "1.0"


def test_without_a_pinned_version_the_newest_is_used(vendor):
    for version in ("1.0", "2.0"):
        vendor.package("toolkit", version)
    vendor.publish()
    vendor.configure(["toolkit"])
    assert vendor.update()[0] == 0
    assert vendor.candidate("toolkit") == "2.0"


def test_the_wrong_key_is_rejected(vendor):
    vendor.package("toolkit", "1.0")
    vendor.publish(signer=vendor.gpg.key("impostor")[1])
    vendor.configure(["toolkit"])
    status, output = vendor.update()
    assert status != 0
    assert "NO_PUBKEY" in output
    assert vendor.candidate("toolkit") is None


def test_a_missing_key_is_rejected(vendor):
    vendor.package("toolkit", "1.0")
    vendor.publish()
    vendor.configure(["toolkit"], key=b"")
    status, output = vendor.update()
    assert status != 0
    assert "not signed" in output or "NO_PUBKEY" in output
    assert vendor.candidate("toolkit") is None


def test_an_expired_key_is_rejected(vendor):
    key, fingerprint = vendor.gpg.key("past", expires="seconds=86400", born="20200101T000000")
    vendor.package("toolkit", "1.0")
    vendor.publish(signer=fingerprint, born="20200101T010000")
    vendor.configure(["toolkit"], key=key.read_bytes())
    status, output = vendor.update()
    assert status != 0
    assert "EXPKEYSIG" in output or "expired" in output.lower()


def test_an_expired_release_is_rejected(vendor):
    vendor.package("toolkit", "1.0")
    vendor.publish(days=-1)
    vendor.configure(["toolkit"])
    status, output = vendor.update()
    assert status != 0
    assert "expired" in output


def test_an_unsigned_release_is_rejected(vendor):
    vendor.package("toolkit", "1.0")
    vendor.publish(signer="nobody")
    vendor.configure(["toolkit"])
    status, output = vendor.update()
    assert status != 0
    assert "not signed" in output


def test_a_changed_index_is_rejected(vendor):
    vendor.package("toolkit", "1.0")
    vendor.publish()
    (vendor.repo / "Packages").write_text((vendor.repo / "Packages").read_text().replace("stand-in", "not this"))
    vendor.configure(["toolkit"])
    assert vendor.update()[0] != 0
