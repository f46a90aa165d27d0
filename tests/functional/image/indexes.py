"""A signed apt archive that has indexes but no packages: `make lock` reads only indexes."""

import hashlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from vault_cube.settings.image import Source


class Indexes:
    """`add` lists a package, `publish` writes and signs the indexes, `source` makes an entry of archive:sources."""

    def __init__(self, mirror, gpg, name="ubuntu", codename="noble"):
        self.folder, self.url, self.name = mirror.folder / name, f"{mirror.url}/{name}", name
        self.gpg, self.codename = gpg, codename
        self.key, self.fingerprint = gpg.key(f"{name}-archive")
        self.stanzas = {}
        self.add("base-files", essential=True)

    def add(self, name, version="1.0", *, suite="", component="main", depends="", essential=False):
        """Add a package to an index. suite: "", "-updates" or "-security"."""
        lines = [f"Package: {name}", f"Version: {version}", "Architecture: amd64", "Maintainer: A <a@archive.example>"]
        lines += ["Essential: yes", "Priority: required"] if essential else ["Priority: optional"]
        lines += [f"Depends: {depends}"] if depends else []
        digest = hashlib.sha256(f"{name} {version}".encode()).hexdigest()
        lines += [f"Filename: pool/{component}/{name}_{version}_amd64.deb", "Size: 7", f"SHA256: {digest}"]
        lines += ["Description: exists in the index only"]
        self.stanzas.setdefault((self.codename + suite, component), []).append("\n".join(lines) + "\n")

    def publish(self, suites=("", "-updates", "-security"), components=("main", "universe"), days=None, signer=None):
        """Write and sign the indexes. days: validity of the index. signer: fingerprint of another key."""
        for suite in (self.codename + suite for suite in suites):
            lines = [
                f"Origin: {self.name.title()}", f"Label: {self.name.title()}", f"Suite: {suite}",
                f"Codename: {self.codename}", "Architectures: amd64", f"Components: {' '.join(components)}",
                f"Date: {format_datetime(datetime.now(UTC) - timedelta(days=2), usegmt=True)}",
            ]  # fmt: skip
            if days is not None:
                lines += [f"Valid-Until: {format_datetime(datetime.now(UTC) + timedelta(days=days), usegmt=True)}"]
            lines += ["SHA256:"]
            for component in components:
                data = "\n".join(self.stanzas.get((suite, component), [])).encode()
                file = self.folder / "dists" / suite / component / "binary-amd64/Packages"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
                lines += [f" {hashlib.sha256(data).hexdigest()} {len(data)} {component}/binary-amd64/Packages"]
            signed = self.gpg(
                "--local-user", signer or self.fingerprint, "--clearsign", "--output", "-",
                data="\n".join([*lines, ""]).encode(),
            )  # fmt: skip
            (self.folder / "dists" / suite / "InRelease").write_bytes(signed)
        return self

    def source(self, **changes):
        values = {
            "archive": self.name, "mirror": self.url, "snapshot": f"{self.url}-snapshot/{{date}}",
            "suites": [self.codename, f"{self.codename}-updates", f"{self.codename}-security"],
            "components": ["main"], "keyring": str(self.key),
        }  # fmt: skip
        return Source.model_construct(**{**values, **changes})
