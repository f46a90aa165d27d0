"""Take Debian packages apart, change them, and make packages of them again."""

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Deb:
    """A package that is being made: a folder with its files, its control fields and its maintainer scripts."""

    folder: Path
    control: dict[str, str]
    component: str = "main"
    suite: str = "noble"

    @property
    def name(self) -> str:
        return self.control["Package"]

    def path(self, name: str) -> Path:
        """A path inside the package, its parent folders made."""
        path = self.folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the package; the name is the path on the box."""
        self.path(name).write_text(text)
        self.path(name).chmod(mode)

    def edit(self, name: str, *replacements: tuple[str, str]) -> None:
        """Replace text in a file of the package. Raises ValueError when Debian's file has changed too much."""
        text = self.path(name).read_text()
        for old, new in replacements:
            if old not in text:
                raise ValueError(f"{self.name}: {name} has no {old!r}: adapt tests/noble/noble_packages.py")
            text = text.replace(old, new)
        self.path(name).write_text(text)

    def script(self, name: str, text: str) -> None:
        """Write a maintainer script, or put lines before the end of the one that is there."""
        path = self.path(f"DEBIAN/{name}")
        before = path.read_text() if path.exists() else "#!/bin/sh\nset -e\n"
        head, marker, tail = before.rpartition("\nexit 0")
        path.write_text(f"{head}\n{text}\n{marker}{tail}" if marker else f"{before}\n{text}\n")
        path.chmod(0o755)

    def depends(self, *names: str, without: tuple[str, ...] = ()) -> None:
        """Add dependencies, and drop those on the packages of `without`."""
        have = [entry.strip() for entry in self.control.get("Depends", "").split(",") if entry.strip()]
        kept = [entry for entry in have if entry.split()[0] not in without]
        self.control["Depends"] = ", ".join([*kept, *names])


@dataclass
class Parts:
    """Where Debian's packages lie, by name, and where work is done."""

    debs: dict[str, Path]
    work: Path
    made: list[Deb] = field(default_factory=list)

    def unpacked(self, name: str) -> Deb:
        """A Debian package taken apart, to be changed."""
        folder = self.work / name
        subprocess.run(["dpkg-deb", "--raw-extract", self.debs[name], folder], check=True)
        # these would be wrong after a change; dpkg makes them itself
        (folder / "DEBIAN/md5sums").unlink(missing_ok=True)
        deb = Deb(folder, read_control((folder / "DEBIAN/control").read_text()))
        self.made.append(deb)
        return deb

    def tree(self, name: str) -> Path:
        """The files of a Debian package that another package takes over."""
        folder = self.work / f"{name}.tree"
        subprocess.run(["dpkg-deb", "--extract", self.debs[name], folder], check=True)
        return folder

    def new(self, name: str, version: str, component: str, suite: str, **fields: str) -> Deb:
        """A package that Debian does not have; it says that it is a stand-in."""
        folder = self.work / f"new-{name}_{version}"
        (folder / "DEBIAN").mkdir(parents=True)
        control = {
            "Package": name,
            "Version": version,
            "Architecture": "amd64",
            "Maintainer": "Vault Cube tests <root@localhost>",
            "Section": f"{component}/misc" if component != "main" else "misc",
            "Priority": "optional",
            **{key.replace("_", "-"): value for key, value in fields.items()},
            "Description": "stand-in for Ubuntu's or NVIDIA's package of this name (tests/noble)",
        }
        deb = Deb(folder, control, component, suite)
        deb.write(f"/usr/share/doc/{name}/README.stand-in", "A stand-in for tests: see tests/noble/README.md.\n")
        self.made.append(deb)
        return deb


def read_control(text: str) -> dict[str, str]:
    """The fields of a control file; continuation lines stay as they are."""
    fields: dict[str, str] = {}
    key = ""
    for line in text.rstrip("\n").splitlines():
        if line[:1] in " \t":
            fields[key] += f"\n{line}"
        else:
            key, _, value = line.partition(":")
            fields[key] = value.strip()
    return fields


def write_control(fields: dict[str, str]) -> str:
    return "".join(f"{key}: {value}\n" for key, value in fields.items())


def file_name(name: str, version: str, architecture: str) -> str:
    """The name of a package's file in a pool: without the version's epoch."""
    return f"{name}_{version.rpartition(':')[2]}_{architecture}.deb"


def build(deb: Deb, pool: Path) -> Path:
    """Make the .deb below pool/<component>/; compressed with zstd as noble's are."""
    (deb.folder / "DEBIAN/control").write_text(write_control(deb.control))
    # a conffile that is no longer in the package would stop dpkg-deb
    listed = deb.folder / "DEBIAN/conffiles"
    if listed.exists():
        lines = [line for line in listed.read_text().splitlines() if (deb.folder / line.lstrip("/")).exists()]
        listed.write_text("".join(f"{line}\n" for line in lines))
    for name in ("preinst", "postinst", "prerm", "postrm"):
        if (deb.folder / "DEBIAN" / name).exists():
            subprocess.run(["sh", "-n", deb.folder / "DEBIAN" / name], check=True)
    file = pool / deb.component / file_name(deb.name, deb.control["Version"], deb.control["Architecture"])
    file.parent.mkdir(parents=True, exist_ok=True)
    ran = subprocess.run(
        ["dpkg-deb", "-Zzstd", "-z1", "--build", deb.folder, file], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise ValueError(f"{deb.name}: {ran.stderr.strip()}")
    shutil.rmtree(deb.folder)
    return file
