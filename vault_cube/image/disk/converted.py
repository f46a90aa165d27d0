"""Write a disk in the formats of other hypervisors, with qemu-img of the tools tree: vmdk, vhdx and ova.

qemu-img writes random identifiers and the file's name into vmdk and vhdx. They are replaced by values that depend only
on the disk, so that two builds give the same bytes. Sources: VMware, "Virtual Disk Format 5.0"; Microsoft, [MS-VHDX];
DMTF, DSP0243 (OVF 1.1).
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import tarfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image import store

NAMESPACE = uuid.UUID("5b1f3c1a-6a55-4f0c-9f6b-2f0b6f2c7d12")
"""Namespace of all identifiers that are derived from a disk: an arbitrary fixed value."""

OPTIONS = {
    # VMware and VirtualBox import only this kind; hwversion 13 is ESXi 6.5, the first with NVMe and UEFI as used here
    "vmdk": "subformat=streamOptimized,adapter_type=lsilogic,hwversion=13",
    "vhdx": "subformat=dynamic",
}
FORMS = (*OPTIONS, "ova")
"""The formats that this module writes."""


@dataclass(frozen=True)
class Raw:
    """A raw disk."""

    path: Path
    sha256: str
    name: str
    """Name of the image without file extension."""
    epoch: int
    """Time of all files, seconds since 1970."""

    def identifier(self, purpose: str) -> uuid.UUID:
        """Return an identifier that depends only on the disk."""
        return uuid.uuid5(NAMESPACE, f"{self.sha256} {purpose}")


def make(raw: Raw, file: Path, qemu_img: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """Write a disk in the format that is the file's extension. Raises VaultCubeError.

    qemu_img, environment: command words and variables that run qemu-img.
    """
    form = file.suffix.removeprefix(".")
    if form == "ova":
        disk = file.with_name(f"{raw.name}-disk1.vmdk")
        make(raw, disk, qemu_img, environment, log)
        _ova(raw, disk, file)
        disk.unlink()
        return
    words: list[str | Path] = [*qemu_img, "convert", "-f", "raw", "-O", form, "-o", OPTIONS[form], raw.path, file]
    process.run(words, purpose=f"format {form}", log=log, env=environment)
    (_fix_vmdk if form == "vmdk" else _fix_vhdx)(raw, file)


# ---- vmdk


def _fix_vmdk(raw: Raw, file: Path) -> None:
    """Replace content id and file name in the descriptor, which follows the header in the sectors that it names.

    qemu-img writes the content id without leading zeros.
    """
    with file.open("r+b") as disk:
        header = disk.read(512)
        # magic, version, flags, capacity, grain size, then offset and size of the descriptor, in sectors
        offset, size = (number * 512 for number in struct.unpack_from("<QQ", header, 28))
        if header[:4] != b"KDMV" or not size:
            raise VaultCubeError(
                f"{file}: qemu-img wrote no vmdk with a descriptor: report this with qemu-img's version"
            )
        disk.seek(offset)
        text = disk.read(size).rstrip(b"\0").decode()
        text = re.sub(r"(?m)^CID=[0-9a-f]+$", f"CID={raw.identifier('vmdk').hex[:8]}", text)
        text = re.sub(r'(?m)^(RW \d+ SPARSE) ".*"$', rf'\1 "{raw.name}.vmdk"', text)
        if len(text.encode()) > size:
            raise VaultCubeError(f"{file}: the image's name is too long for a vmdk: shorten pillar key image:name")
        disk.seek(offset)
        disk.write(text.encode().ljust(size, b"\0"))


# ---- vhdx: [MS-VHDX] 2.2.2 (header), 2.2.3 (region table), 2.6 (metadata)

HEADERS = (64 << 10, 128 << 10)
REGIONS = 192 << 10
METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
PAGE_83 = uuid.UUID("beca12ab-b2e6-4523-93ef-c309e000c746")


def _fix_vhdx(raw: Raw, file: Path) -> None:
    """Replace sequence numbers and identifiers in both headers, and the identifier of the virtual disk."""
    with file.open("r+b") as disk:
        headers = [_at(disk, place, 4096) for place in HEADERS]
        numbers = [struct.unpack_from("<Q", header, 8)[0] for header in headers]
        for place, header, number in zip(HEADERS, headers, numbers, strict=True):
            if header[:4] != b"head" or any(header[48:64]):
                # with an identifier of a log, the file would not have been closed
                raise VaultCubeError(f"{file}: qemu-img wrote no vhdx: report this with qemu-img's version")
            fixed = bytearray(header)
            # the header with the higher number is the current one
            struct.pack_into("<Q", fixed, 8, 2 if number == max(numbers) else 1)
            fixed[16:32] = raw.identifier("vhdx file").bytes_le
            fixed[32:48] = raw.identifier("vhdx data").bytes_le
            fixed[4:8] = bytes(4)
            struct.pack_into("<I", fixed, 4, crc32c(fixed))
            disk.seek(place)
            disk.write(fixed)
        # the log of the conversion, which is over, has random identifiers, too
        length, place = struct.unpack_from("<IQ", headers[0], 68)
        disk.seek(place)
        disk.write(bytes(length))
        table = _entry(_at(disk, REGIONS, 64 << 10), 16, METADATA, "<QI")
        start = table[0]
        offset, size = _entry(_at(disk, start, 64 << 10), 32, PAGE_83, "<II")
        if size != 16:
            raise VaultCubeError(f"{file}: qemu-img wrote another vhdx than expected: report this with its version")
        disk.seek(start + offset)
        disk.write(raw.identifier("vhdx disk").bytes_le)


def _at(disk: io.BufferedRandom, place: int, size: int) -> bytes:
    disk.seek(place)
    return disk.read(size)


def _entry(table: bytes, first: int, identifier: uuid.UUID, layout: str) -> tuple[int, int]:
    """Return offset and length of an entry of 32 bytes that begins with an identifier. Raises VaultCubeError."""
    for place in range(first, len(table) - 32, 32):
        if table[place : place + 16] == identifier.bytes_le:
            offset, length = struct.unpack_from(layout, table, place + 16)
            return offset, length
    raise VaultCubeError(f"vhdx: no entry {identifier}: report this with qemu-img's version")


def crc32c(data: bytes | bytearray) -> int:
    """Compute the CRC-32C (Castagnoli) of some bytes: RFC 3720, B.4."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# ---- ova

OVF = """\
<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
  xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References>
    <File ovf:id="file1" ovf:href="{disk}" ovf:size="{size}"/>
  </References>
  <DiskSection>
    <Info>The disk</Info>
    <Disk ovf:diskId="disk1" ovf:fileRef="file1" ovf:capacity="{capacity}" ovf:capacityAllocationUnits="byte"
      ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection>
    <Info>The network</Info>
    <Network ovf:name="network"><Description>Has to give an address by DHCP</Description></Network>
  </NetworkSection>
  <VirtualSystem ovf:id="{name}">
    <Info>A golden image</Info>
    <OperatingSystemSection ovf:id="96" vmw:osType="other5xLinux64Guest">
      <Info>Linux, 64 bit</Info>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:ElementName>4 processors</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>4</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:ElementName>8192 MiB of memory</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>8192</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:ElementName>SCSI controller</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>Disk</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/disk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation><rasd:Connection>network</rasd:Connection>
        <rasd:ElementName>Network</rasd:ElementName><rasd:InstanceID>5</rasd:InstanceID>
        <rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType>
      </Item>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
      <vmw:Config ovf:required="false" vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="false"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"""


def _ova(raw: Raw, disk: Path, file: Path) -> None:
    """Write an appliance: a tar with the OVF description first, the manifest of checksums, and the disk."""
    size = disk.stat().st_size
    values = {"disk": disk.name, "size": size, "capacity": raw.path.stat().st_size, "name": raw.name}
    ovf = OVF.format(**values).encode()
    sums = {f"{raw.name}.ovf": hashlib.sha256(ovf).hexdigest(), disk.name: store.sha256_of(disk)}
    listed = "".join(f"SHA256({name})= {digest}\n" for name, digest in sums.items()).encode()
    with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as tar, disk.open("rb") as content:
        parts = ((f"{raw.name}.ovf", len(ovf), io.BytesIO(ovf)), (f"{raw.name}.mf", len(listed), io.BytesIO(listed)))
        for name, length, data in (*parts, (disk.name, size, content)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = length, raw.epoch, 0o644
            tar.addfile(entry, data)
