"""Pillar sections `target`, `archive` and `image`: the kind of box, its archives, and the image's files."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, field_validator

from vault_cube.settings.frameworks import Environment
from vault_cube.settings.repository import Fingerprint
from vault_cube.settings.strict import AbsolutePath, HttpUrl, PackageName, Section, Sha256

Uuid = Annotated[UUID, Field(strict=False)]

ARCHIVE = "Name of the archive, a key of image:mirrors; of Debian and Ubuntu the lower-case Label of the Release file"


class Target(Section):
    """The kind of box that is built; one file `pillar/targets/<name>.sls` per target."""

    name: Annotated[
        str, Field(pattern=r"^[a-z0-9.-]+$", description="Name of the target, which is the name of its file")
    ]
    os: Literal["Debian", "Ubuntu"] = Field(description="Distribution, as in Salt's grain `os`")
    release: str = Field(description="Version of the distribution, as in VERSION_ID of os-release(5)")
    codename: str = Field(description="Code name of the release, as the archive spells it")
    architecture: Literal["amd64"] = Field(description="Processor architecture, as Debian names it")
    python: Annotated[str, Field(pattern=r"^3\.\d+$", description="Version of the distribution's Python, major.minor")]
    glibc: Annotated[str, Field(pattern=r"^2\.\d+$", description="Version of the C library; decides which wheels fit")]
    accelerator: Literal["cpu", "nvidia"] = Field(description="Builds of the frameworks to install")


class Source(Section):
    """An apt source: `deb <mirror> <suite> <components>`."""

    archive: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", description=ARCHIVE)]
    mirror: HttpUrl = Field(
        description="Mirror for the box, and for the builder if image:mirrors and its own apt name none"
    )
    snapshot: HttpUrl | None = Field(
        description="URL of a dated copy of the archive; `{date}` becomes a date such as 20261124T000000Z"
    )
    suites: list[str] = Field(min_length=1, description="Suites, such as bookworm-updates")
    components: list[str] = Field(min_length=1, description="Components, such as main")
    keyring: Annotated[
        str, Field(pattern=r"^/.+\.(gpg|pgp|asc)$", description="Keyring that verifies the archive's signature")
    ]


class Archive(Section):
    """The archives of packages; a vendor's apt repositories are in the section of the layer that needs them."""

    sources: list[Source] = Field(min_length=1, description="apt sources of the box")
    wheel_index: HttpUrl | None = Field(
        description="Index of Python packages; null: the one that pip uses on the building machine"
    )
    extra_wheel_indexes: list[HttpUrl] = Field(description="Further indexes, such as PyTorch's for CPU builds")


class Tools(Section):
    """The tools tree: a locked Debian whose mkfs, ukify and QEMU make and boot the disk."""

    sources: list[Source] = Field(min_length=1, description="apt sources of the tools tree")
    codename: str = Field(description="Code name of its Debian release")
    packages: list[PackageName] = Field(min_length=1, description="Packages of the tools tree")


class Scanner(Section):
    """A scanner's Debian package, which is unpacked and not installed."""

    path: Annotated[str, Field(pattern=r"^pool/\S+\.deb$", description="Path in the archive")]
    sha256: Sha256 = Field(description="SHA-256 of the file")


class Scanners(Section):
    """What `image.scan` scans with; newer than the tools tree's release, whose content lacks the profiles."""

    archive: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", description="One of the archives of image:tools:sources")]
    date: Annotated[str, Field(pattern=r"^\d{8}T\d{6}Z$", description="Date of the snapshot that has the packages")]
    packages: dict[Literal["ssg-debian", "lynis"], Scanner] = Field(description="Packages by name")


class Disk(Section):
    """The disk: GPT, an EFI system partition and an ext4 root; fixed identifiers make its bytes reproducible."""

    esp_mib: Annotated[int, Field(ge=64, description="Size of the EFI system partition")]
    spare_mib: Annotated[int, Field(ge=64, description="Free space in the root file system of the image")]
    disk_uuid: Uuid = Field(description="UUID of the partition table")
    esp_uuid: Uuid = Field(description="PARTUUID of the EFI system partition")
    root_uuid: Uuid = Field(description="PARTUUID of the root partition")
    filesystem_uuid: Uuid = Field(description="UUID of the root file system")
    hash_seed: Uuid = Field(description="ext4's seed for directory hashes (mke2fs -E hash_seed)")
    kernel_cmdline: str = Field(description="Kernel command line after root=PARTUUID=… ro")


class Image(Section):
    """The golden image: its name, version, formats and contents below the layers."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", description="Name of the image, the start of its files' names")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$", description="Version of the image (SemVer)")]
    formats: list[Literal["qcow2", "raw.zst", "vmdk", "vhdx", "ova"]] = Field(
        min_length=1,
        description="Formats to write; qcow2 is required. docs/how-to/hypervisors.md lists who takes which",
    )
    keep: Annotated[int, Field(ge=1, description="Number of finished images of a target to keep in dist/")]
    mirrors: dict[str, HttpUrl] = Field(
        description="Mirrors of the builder by name of the archive; none: those of the machine's apt"
    )
    keyrings: dict[AbsolutePath, list[Fingerprint]] = Field(
        description="Keyrings of archive:sources that locks/keyrings/ carries, with the fingerprints of all their keys"
    )
    root_packages: list[PackageName] = Field(
        description="Packages of the root tree besides those of priority essential and required"
    )
    salt: Environment = Field(description="Python environment of Salt on the box")
    cache_gib: Annotated[
        int, Field(ge=1, description="Size of the store, and of the layer cache; the least recently used are evicted")
    ]
    tools: Tools
    scanners: Scanners
    disk: Disk

    @field_validator("formats")
    @classmethod
    def _boots(cls, formats: list[str]) -> list[str]:
        if "qcow2" not in formats:
            raise ValueError("qcow2 is missing: add it, because the boot test and `image.verify` use it")
        if len(set(formats)) < len(formats):
            raise ValueError("a format is listed twice: remove one")
        return formats
