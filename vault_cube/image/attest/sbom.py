"""Write the SBOMs of an image, a list of all packages and wheels, as CycloneDX 1.6 and SPDX 2.3.

The official libraries write both. The list comes from the locks, with which the builder compares the installed
packages, so the same image has the same SBOMs. Licences are not evaluated: they are NOASSERTION in the SPDX document.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

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
from vault_cube.image.attest.source_packages import SourcePackage
from vault_cube.image.locks.aptlock import Deb
from vault_cube.image.locks.pylock import Wheel

# namespace of all generated UUIDs: an arbitrary fixed value
NAMESPACE = uuid.UUID("5b1f3c1a-6a55-4f0c-9f6b-2f0b6f2c7d11")


@dataclass(frozen=True)
class Part:
    """One package or wheel of an image."""

    name: str
    version: str
    sha256: str
    purl: str
    where: tuple[str, ...]
    """The layer that installs a package, or the environments that contain a wheel."""
    source: SourcePackage | None = None
    """The source of a Debian package, if known."""

    @property
    def ref(self) -> str:
        """An identifier that is unique in the image."""
        return f"{self.name}-{self.sha256[:16]}"


@dataclass(frozen=True)
class Subject:
    """The image that an SBOM describes."""

    name: str
    version: str
    raw_sha256: str
    epoch: int
    """The lock's timestamp, seconds since 1970."""
    distribution: str
    """`Debian` or `Ubuntu`."""
    release: str
    """Version of the distribution, such as 12."""

    @property
    def uuid(self) -> uuid.UUID:
        """The document's identifier, derived from the image's name and digest."""
        return uuid.uuid5(NAMESPACE, f"{self.name} {self.raw_sha256}")

    @property
    def created(self) -> datetime.datetime:
        """The lock's timestamp, which is the document's creation time."""
        return datetime.datetime.fromtimestamp(self.epoch, datetime.UTC)


def parts(
    debs: Iterable[Deb],
    environments: Mapping[str, Sequence[Wheel]],
    distribution: str,
    release: str,
    sources: Mapping[str, SourcePackage] = MappingProxyType({}),
) -> list[Part]:
    """Return the parts of an image sorted by name, packages first; each file appears once.

    environments: name → wheels. distribution: `Debian` or `Ubuntu`. release: its version, such as 12.
    sources: package → its source.
    """
    packages = [
        Part(
            deb.name,
            deb.version,
            deb.sha256,
            _deb_url(deb, distribution.lower(), release, sources.get(deb.name)),
            (deb.layer,),
            sources.get(deb.name),
        )
        for deb in sorted(debs, key=lambda deb: deb.name)
    ]
    environments_by_wheel: dict[Wheel, list[str]] = {}
    for environment, wheels in sorted(environments.items()):
        for wheel in wheels:
            environments_by_wheel.setdefault(wheel, []).append(environment)
    return packages + [
        Part(
            wheel.name,
            wheel.version,
            wheel.sha256,
            PackageURL("pypi", None, wheel.name, wheel.version, {"file_name": wheel.file}).to_string(),
            tuple(names),
        )
        for wheel, names in sorted(environments_by_wheel.items(), key=lambda item: (item[0].name, item[0].sha256))
    ]


def _deb_url(deb: Deb, distribution: str, release: str, source: SourcePackage | None) -> str:
    # archives such as debian and debian-security belong to the distribution; any other one is named after its vendor
    vendor = distribution if deb.archive.partition("-")[0] == distribution else deb.archive
    # syft and grype: distro is NAME-VERSION, upstream is the source package, with its version if it differs
    qualifiers = {"arch": deb.architecture, "distro": f"{distribution}-{release}"}
    if source and source.version != deb.version:
        qualifiers["upstream"] = f"{source.name}@{source.version}"
    elif source and source.name != deb.name:
        qualifiers["upstream"] = source.name
    return PackageURL("deb", vendor, deb.name, deb.version, qualifiers).to_string()


def cyclonedx(subject: Subject, parts: Sequence[Part], file: Path) -> None:
    """Write the CycloneDX document of an image."""
    image = Component(
        name=subject.name,
        version=subject.version,
        # not an operating system: trivy accepts only one component of that type, which is the distribution
        type=ComponentType.PLATFORM,
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
            properties=[
                *(Property(name="vault-cube:in", value=name) for name in part.where),
                *_trivy(part),
            ],
        )
        for part in parts
    ]
    components.append(
        Component(
            name=subject.distribution.lower(),
            version=subject.release,
            type=ComponentType.OPERATING_SYSTEM,
            bom_ref="distribution",
        )
    )
    bom = Bom(
        serial_number=subject.uuid,
        metadata=BomMetaData(component=image, timestamp=subject.created),
        components=components,
    )
    bom.register_dependency(image, components)
    file.write_text(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1) + "\n")


def _trivy(part: Part) -> list[Property]:
    """Return the properties from which trivy takes the source package; it does not read `upstream` of a purl."""
    if part.source is None:
        return []
    epoch, upstream, revision = part.source.parts
    values = {"SrcName": part.source.name, "SrcVersion": upstream, "SrcRelease": revision, "SrcEpoch": epoch}
    return [Property(name=f"aquasecurity:trivy:{name}", value=value) for name, value in values.items() if value]


def spdx_document(subject: Subject, parts: Sequence[Part]) -> Document:
    """Return the SPDX document of an image as an object of the SPDX library."""
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
            # the words that trivy and syft use
            source_info=f"built package from: {part.source.name} {part.source.version}" if part.source else None,
            external_references=[
                ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", part.purl),
            ],
        )
        for part in parts
    ]
    return Document(
        CreationInfo(
            "SPDX-2.3",
            "SPDXRef-DOCUMENT",
            subject.name,
            f"urn:uuid:{subject.uuid}",
            [Actor(ActorType.TOOL, f"vault-cube-{__version__}")],
            # the library requires a naive time and writes it as UTC
            subject.created.replace(tzinfo=None),
        ),
        [image, *packages],
        relationships=[
            Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, image.spdx_id),
            *(Relationship(image.spdx_id, RelationshipType.CONTAINS, package.spdx_id) for package in packages),
        ],
    )


def spdx(subject: Subject, parts: Sequence[Part], file: Path) -> None:
    """Write the SPDX document of an image."""
    # not validated here, because that takes longer than everything else in this file; the unit tests validate it
    write_document_to_file(spdx_document(subject, parts), str(file), validate=False)
