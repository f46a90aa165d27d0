"""A signed apt archive and a Python index with small test packages, on a local server."""

import hashlib
import shutil
import subprocess
from datetime import UTC, datetime
from email.utils import format_datetime


class Archive:
    """`deb` and `wheel` add packages, `drop` and `drop_wheel` remove them, `publish` writes and signs the indexes."""

    def __init__(self, mirror, gpg, wheels):
        self.mirror, self.gpg, self.wheels = mirror, gpg, wheels
        self.top = mirror.folder / "debian"
        self.key, self.fingerprint = gpg.key("archive")
        for suite in ("stable", "stable-security"):
            (self.top / "pool" / suite).mkdir(parents=True)

    def deb(self, name, version="1.0", *, suite="stable", depends="", essential=False):
        tree = self.mirror.folder / f"tree-{name}-{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        lines = [f"Package: {name}", f"Version: {version}", "Architecture: amd64", "Maintainer: A <a@archive.example>"]
        lines += ["Essential: yes", "Priority: required"] if essential else ["Priority: optional"]
        lines += [f"Depends: {depends}"] if depends else []
        (tree / "DEBIAN/control").write_text("\n".join([*lines, "Description: stand-in\n"]))
        file = self.top / "pool" / suite / f"{name}_{version}_amd64.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, file], check=True, capture_output=True)
        shutil.rmtree(tree)
        return file

    def drop(self, name, version="1.0", suite="stable"):
        (self.top / "pool" / suite / f"{name}_{version}_amd64.deb").unlink()

    def publish(self):
        """Write and sign the indexes of the packages in the pool, and write the Python index."""
        for suite in ("stable", "stable-security"):
            stanzas = []
            for deb in sorted((self.top / "pool" / suite).glob("*.deb")):
                control = subprocess.run(["dpkg-deb", "-f", deb], capture_output=True, text=True, check=True).stdout
                data = deb.read_bytes()
                stanzas.append(
                    f"{control}Filename: {deb.relative_to(self.top)}\nSize: {len(data)}\n"
                    f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
                )
            packages = "\n".join(stanzas).encode()
            dist = self.top / "dists" / suite
            (dist / "main/binary-amd64").mkdir(parents=True, exist_ok=True)
            (dist / "main/binary-amd64/Packages").write_bytes(packages)
            release = (
                f"Origin: Test\nSuite: {suite}\nCodename: {suite}\nArchitectures: amd64\nComponents: main\n"
                f"Date: {format_datetime(datetime.now(UTC), usegmt=True)}\nSHA256:\n"
                f" {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-amd64/Packages\n"
            )
            signed = self.gpg(
                "--local-user", self.fingerprint, "--clearsign", "--output", "-", data=release.encode()
            )  # fmt: skip
            (dist / "InRelease").write_bytes(signed)
        shutil.rmtree(self.mirror.folder / "simple", ignore_errors=True)
        for wheel in sorted(self.wheels.folder.glob("*.whl")):
            page = self.mirror.folder / "simple" / wheel.name.partition("-")[0].replace("_", "-") / "index.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            before = page.read_text() if page.exists() else "<!DOCTYPE html><html><body>"
            page.write_text(f'{before}<a href="/wheels/{wheel.name}#sha256={digest}">{wheel.name}</a>\n')
        shutil.rmtree(self.mirror.folder / "wheels", ignore_errors=True)
        shutil.copytree(self.wheels.folder, self.mirror.folder / "wheels")

    def wheel(self, name, version="1.0"):
        self.wheels(name, version, {f"{name}/__init__.py": f"version = {version!r}\n"})

    def drop_wheel(self, name, version="1.0"):
        (self.wheels.folder / f"{name}-{version}-py3-none-any.whl").unlink()

    def choose(self, pillar):
        """Change a pillar to use this archive: one root package, one tools package, one Python environment."""
        source = {
            "archive": "vault-cube-test", "mirror": f"{self.mirror.url}/debian",
            "suites": ["stable", "stable-security"],
            "snapshot": f"{self.mirror.url}/snapshot/{{date}}", "components": ["main"], "keyring": str(self.key),
        }  # fmt: skip
        pillar["archive"] = {
            "sources": [source], "wheel_index": f"{self.mirror.url}/simple", "extra_wheel_indexes": [],
        }  # fmt: skip
        image = pillar["image"]
        image["root_packages"] = ["rootpkg"]
        image["tools"] = {"codename": "stable", "sources": [source], "packages": ["toolpkg"]}
        image["salt"] = {"requirements": ["alpha", "beta"], "overrides": [], "excluded": []}
        pillar["frameworks"] |= {"environments": {}, "checks": {}, "commands": {}}
        pillar["frameworks"]["vllm"]["environment"] = None

    def filled(self):
        """Add the packages that the tests lock first, and publish them."""
        self.deb("essential", essential=True)
        for name in ("rootpkg", "toolpkg", "lib"):
            self.deb(name)
        self.deb("app", depends="lib")
        self.wheel("alpha")
        self.wheel("beta")
        self.publish()
        return self
