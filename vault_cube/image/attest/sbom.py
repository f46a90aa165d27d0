"""What an image is made of: every package and wheel, as CycloneDX 1.6 and SPDX 2.3, written by their own libraries.

Both follow from the locks alone (the builder holds what is installed against them), so that they are the same bytes
for the same image. Licences are not judged here: SPDX says NOASSERTION.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from spdx_tools.spdx.model.actor import Actor, ActorType
from spdx_tools.spdx.model.checksum import Checksum, ChecksumAlgorithm
from spdx_tools.spdx.model.document import CreationInfo, Document
from spdx_tools.spdx.model.package import (
    ExternalPackageRef,
    ExternalPackageRefCategory,
    Package,
)
from spdx_tools.spdx.model.relationship import Relationship, RelationshipType
from spdx_tools.spdx.model.spdx_no_assertion import SpdxNoAssertion
from spdx_tools.spdx.writer.json.json_writer import write_document_to_file

from vault_cube import __version__
from vault_cube.image.locks.aptlock import Deb
from vault_cube.image.locks.pylock import Wheel

# the parent of all identifiers made here; any fixed value does
NAMESPACE = uuid.UUID("5b1f3c1a-6a55-4f0c-9f6b-2f0b6f2c7d11")


@dataclass(frozen=True)
class Part:
    """One package or wheel of an image."""

    name: str
    version: str
    sha256: str
    purl: str
    where: tuple[str, ...]
    """the layer that brings a package, the environments that hold a wheel"""

    @property
    def ref(self) -> str:
        return f"{self.name}-{self.sha256[:16]}"


@dataclass(frozen=True)
class Subject:
    """The image that the parts make."""

    name: str
    version: str
    raw_sha256: str
    epoch: int
    """the lock's moment, seconds since 1970"""

    @property
    def uuid(self) -> uuid.UUID:
        return uuid.uuid5(NAMESPACE, f"{self.name} {self.raw_sha256}")

    @property
    def moment(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.epoch, datetime.UTC)


def parts(
    debs: Iterable[Deb], environments: Mapping[str, Sequence[Wheel]], distribution: str, codename: str
) -> list[Part]:
    """The parts of an image, packages first, each file once, sorted by name.

    environments: name → wheels. distribution: `Debian`, `Ubuntu`.
    """
    found = [
        Part(
            deb.name,
            deb.version,
            deb.sha256,
            _deb_url(deb, distribution.lower(), codename),
            (deb.layer,),
        )
        for deb in sorted(debs, key=lambda deb: deb.name)
    ]
    holders: dict[Wheel, list[str]] = {}
    for environment, wheels in sorted(environments.items()):
        for wheel in wheels:
            holders.setdefault(wheel, []).append(environment)
    return found + [
        Part(
            wheel.name,
            wheel.version,
            wheel.sha256,
            PackageURL("pypi", None, wheel.name, wheel.version, {"file_name": wheel.file}).to_string(),
            tuple(names),
        )
        for wheel, names in sorted(holders.items(), key=lambda item: (item[0].name, item[0].sha256))
    ]


def _deb_url(deb: Deb, distribution: str, codename: str) -> str:
    # debian and debian-security are the distribution's; another archive is a vendor's own namespace
    vendor = distribution if deb.archive.partition("-")[0] == distribution else deb.archive
    qualifiers = {"arch": deb.architecture, "distro": codename}
    return PackageURL("deb", vendor, deb.name, deb.version, qualifiers).to_string()


def cyclonedx(subject: Subject, found: Sequence[Part], file: Path) -> None:
    """Write the CycloneDX document."""
    image = Component(
        name=subject.name,
        version=subject.version,
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref="image",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=subject.raw_sha256)],
    )
    components = [
        Component(
            name=part.name,
            version=part.version,
            type=ComponentType.LIBRARY,
            bom_ref=part.ref,
            purl=PackageURL.from_string(part.purl),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=part.sha256)],
            properties=[Property(name="vault-cube:in", value=name) for name in part.where],
        )
        for part in found
    ]
    bom = Bom(
        serial_number=subject.uuid,
        metadata=BomMetaData(component=image, timestamp=subject.moment),
        components=components,
    )
    bom.register_dependency(image, components)
    file.write_text(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1) + "\n")


def spdx_document(subject: Subject, found: Sequence[Part]) -> Document:
    """The SPDX document, as its library holds it."""
    unknown = SpdxNoAssertion()
    image = Package(
        "SPDXRef-image",
        subject.name,
        unknown,
        version=subject.version,
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, subject.raw_sha256)],
    )
    packages = [
        Package(
            f"SPDXRef-{part.ref.replace('_', '-').replace('+', '-')}",
            part.name,
            unknown,
            version=part.version,
            files_analyzed=False,
            checksums=[Checksum(ChecksumAlgorithm.SHA256, part.sha256)],
            comment=f"in {', '.join(part.where)}",
            external_references=[
                ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", part.purl),
            ],
        )
        for part in found
    ]
    return Document(
        CreationInfo(
            "SPDX-2.3",
            "SPDXRef-DOCUMENT",
            subject.name,
            f"urn:uuid:{subject.uuid}",
            [Actor(ActorType.TOOL, f"vault-cube-{__version__}")],
            # the library writes it as it stands, with a Z
            subject.moment.replace(tzinfo=None),
        ),
        [image, *packages],
        relationships=[
            Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, image.spdx_id),
            *(Relationship(image.spdx_id, RelationshipType.CONTAINS, package.spdx_id) for package in packages),
        ],
    )


def spdx(subject: Subject, found: Sequence[Part], file: Path) -> None:
    """Write the SPDX document."""
    # validated by the unit tests: that takes longer than everything else here
    write_document_to_file(spdx_document(subject, found), str(file), validate=False)
