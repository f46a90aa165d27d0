"""Pillar sections `target`, `archive` and `image`: what is built, from where, into which files."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, field_validator

from vault_cube.settings.environment import Environment
from vault_cube.settings.strict import HttpUrl, PackageName, Section

Uuid = Annotated[UUID, Field(strict=False)]


class Target(Section):
    """One kind of box. A target is one pillar file, `pillar/targets/<name>.sls`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9.-]+$", description="the file's name")]
    os: Literal["Debian", "Ubuntu"] = Field(description="Salt's grain `os` of the box")
    release: str = Field(description="version of the distribution, as its VERSION_ID says")
    codename: str = Field(description="code name of the release, as the archive spells it")
    architecture: Literal["amd64"] = Field(description="Debian's name of the processor architecture")
    python: Annotated[str, Field(pattern=r"^3\.\d+$", description="the distribution's Python, major.minor")]
    glibc: Annotated[str, Field(pattern=r"^2\.\d+$", description="version of the C library, major.minor")]
    accelerator: Literal["cpu", "nvidia"] = Field(description="which builds of the frameworks are installed")


class Source(Section):
    """One apt source: `deb <mirror> <suite> <components>`."""

    archive: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", description="name of the archive, key of image:mirrors")]
    mirror: HttpUrl = Field(description="what the box uses; the builder, too, when nothing nearer is configured")
    snapshot: HttpUrl | None = Field(description="dated copy of the archive, `{date}` standing for 20261124T000000Z")
    suites: list[str] = Field(min_length=1)
    components: list[str] = Field(min_length=1)
    keyring: Annotated[str, Field(pattern=r"^/.+\.(gpg|pgp|asc)$", description="the keyring its signature must match")]


class Archive(Section):
    """Where the box gets packages from; a vendor's apt sources stand in the layer that needs them."""

    sources: list[Source] = Field(min_length=1)
    wheel_index: HttpUrl | None = Field(description="Python index; null: what pip on the building machine uses")
    extra_wheel_indexes: list[HttpUrl] = Field(description="further indexes, such as PyTorch's own for CPU builds")


class Tools(Section):
    """The tools tree: a small pinned Debian 13 whose mkfs, ukify and qemu make and boot the disk on any machine."""

    sources: list[Source] = Field(min_length=1)
    codename: str
    packages: list[PackageName] = Field(min_length=1)


class Disk(Section):
    """GPT with an EFI system partition and one ext4 root, all identifiers fixed so that the bytes are, too."""

    esp_mib: Annotated[int, Field(ge=64, description="size of the EFI system partition, MiB")]
    spare_mib: Annotated[int, Field(ge=64, description="free space left in the root file system as shipped, MiB")]
    disk_uuid: Uuid
    esp_uuid: Uuid
    root_uuid: Uuid
    filesystem_uuid: Uuid
    hash_seed: Uuid
    kernel_cmdline: str = Field(description="appended to root=PARTUUID=… ro")


class Image(Section):
    """The golden image's name and form."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$", description="SemVer of the image")]
    formats: list[Literal["qcow2", "raw.zst"]] = Field(min_length=1)
    keep: Annotated[int, Field(ge=1, description="how many finished images of a target stay in dist/")]
    mirrors: dict[str, HttpUrl] = Field(description="the builder's own mirrors by archive name; not part of any image")
    root_packages: list[PackageName] = Field(description="what Salt needs to run, beside essential and required")
    salt: Environment = Field(description="Salt's own Python environment on the box, /opt/vault-cube/salt")
    cache_gib: Annotated[
        int, Field(ge=1, description="layers, and the store: least recently used go beyond this, GiB each")
    ]
    tools: Tools
    disk: Disk

    @field_validator("formats")
    @classmethod
    def _boots(cls, formats: list[str]) -> list[str]:
        if "qcow2" not in formats:
            raise ValueError("qcow2 must be among them: it is the form that is booted and proven")
        return formats
