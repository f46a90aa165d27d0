"""A signed repository of a vendor, with stand-in packages, and a configuration of apt that reads no other."""

import hashlib
import json
import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from copied import minion, salt_call


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
    conf = minion(
        folder / "conf", include=[], file_client="local", pillar_roots={"base": []}, enable_fqdns_grains=False
    )
    pillar = {"target": {"architecture": "amd64"}, "runtime": {"repositories": [repository]}}
    ran = salt_call(conf, "--out=json", "state.show_sls", "runtime.repositories", f"pillar={json.dumps(pillar)}")
    files = {}
    for state in json.loads(ran.stdout)["local"].values():
        values = {key: value for part in state.get("file", []) if isinstance(part, dict) for key, value in part.items()}
        if values:
            files[values["name"]] = values["contents"]
    assert set(files) == {"/etc/apt/sources.list.d/vendor.sources", "/etc/apt/preferences.d/vendor"}
    return files
