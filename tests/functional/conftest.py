"""Real uv, apt, gpg and Salt, on what the tests make themselves; nothing is asked of a network."""

import base64
import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest
import salt.config
from copied import distribution, minion
from saltfactories.utils.functional import Loaders


@pytest.fixture
def wheels(tmp_path):
    """wheels(name, version, {path: text}) makes a wheel; wheels.lock(file, (name, version), …) locks some of them."""
    return Wheels(tmp_path / "wheels")


class Wheels:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def __call__(self, name, version, files):
        info = f"{name}-{version}.dist-info"
        contents = {
            **files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": f"[console_scripts]\n{name}-hello = {name}:main\n",
        }
        rows = []
        for path, text in contents.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{path},sha256={digest},{len(text.encode())}\n")
        contents[f"{info}/RECORD"] = "".join(rows) + f"{info}/RECORD,,\n"
        with zipfile.ZipFile(self.folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            for path, text in contents.items():
                wheel.writestr(path, text)
        return self

    def lock(self, file, *packages):
        lines = []
        for name, version in packages:
            wheel = self.folder / f"{name}-{version}-py3-none-any.whl"
            lines.append(
                f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}  # {wheel.name}\n"
            )
        file.write_text("".join(lines))
        return file


@pytest.fixture
def gpg(tmp_path):
    """A gpg of its own: gpg(*arguments, data) runs it; gpg.key(name) makes a key and exports it."""
    short = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    yield Gpg(short, tmp_path)
    subprocess.run(["gpgconf", "--homedir", short, "--kill", "all"], check=False)
    subprocess.run(["rm", "-rf", short], check=True)


class Gpg:
    def __init__(self, home, folder):
        self.home, self.folder = home, folder

    def __call__(self, *arguments, data=b""):
        command = [
            "gpg",
            "--homedir",
            self.home,
            "--batch",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]
        ran = subprocess.run([*command, *arguments], input=data, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr.decode()
        return ran.stdout

    def key(self, name, expires="never", born=None):
        """Returns the exported key's file and its fingerprint."""
        clock = ["--faked-system-time", born] if born else []
        self(*clock, "--quick-generate-key", f"{name} <{name}@vendor.example>", "ed25519", "sign", expires)
        listed = self("--with-colons", "--list-keys", name).decode()
        fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))
        file = self.folder / f"{name}.asc"
        file.write_bytes(self("--armor", "--export", fingerprint))
        return file, fingerprint


@pytest.fixture(scope="session")
def salt_of(tmp_path_factory):
    """salt_of(target, local) is Salt as a box of that target has it, with a local.sls: .states, .modules, .pillar."""
    made = {}

    def load(target, local=None):
        key = target, json.dumps(local)
        if key not in made:
            made[key] = Loaders(options(target, tmp_path_factory.mktemp(f"salt-{target}"), local))
        return made[key]

    return load


def options(target, folder, local=None):
    """Return a minion's options, with the target's grains."""
    conf = minion(folder, target, local=local, grains=distribution(target))
    return salt.config.minion_config(str(conf / "minion"))
