"""Read the fingerprints of OpenPGP keys from a keyring file, without gpg."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

PUBLIC_KEY = 6


def primary_keys(data: bytes) -> list[str]:
    """Compute the fingerprints of all primary keys in a keyring, armoured or binary.

    data: the contents of the file. Returns 40 upper-case hexadecimal digits per key. Raises ValueError if the data is
    not a keyring of version 4 keys. Source: RFC 9580, sections 4.2 (packets), 5.5.4.2 (fingerprints), 6 (armour).
    """
    if b"-----BEGIN PGP PUBLIC KEY BLOCK-----" in data:
        data = _dearmoured(data)
    fingerprints = []
    position = 0
    while position < len(data):
        tag, position, length = _header(data, position)
        body = data[position : position + length]
        if len(body) != length:
            raise ValueError("the keyring is truncated")
        if tag == PUBLIC_KEY:
            if body[:1] != b"\x04":
                raise ValueError("the keyring contains a key that is not of version 4")
            fingerprints.append(
                hashlib.sha1(b"\x99" + length.to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper()
            )
        position += length
    if not fingerprints:
        raise ValueError("the file contains no public key")
    return fingerprints


def _dearmoured(data: bytes) -> bytes:
    blocks = re.findall(
        rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+\r?\n)*?\r?\n(.*?)(?:=[A-Za-z0-9+/]{4}\s*)?-----END PGP",
        data, re.DOTALL,
    )  # fmt: skip
    try:
        return b"".join(base64.b64decode(b"".join(block.split()), validate=True) for block in blocks)
    except binascii.Error as err:
        raise ValueError("the ASCII armour is damaged") from err


def _header(data: bytes, position: int) -> tuple[int, int, int]:
    """Parse a packet's header. Returns its tag, the position of its body, and the length of the body."""
    first = data[position]
    if not first & 0x80:
        raise ValueError("the file is not a keyring")
    try:
        if first & 0x40:
            size = data[position + 1]
            if size < 192:
                return first & 0x3F, position + 2, size
            if size < 224:
                return first & 0x3F, position + 3, (size - 192 << 8) + data[position + 2] + 192
            if size == 255:
                return first & 0x3F, position + 6, int.from_bytes(data[position + 2 : position + 6], "big")
            raise ValueError("the keyring has a packet of unknown length")
        width = {0: 1, 1: 2, 2: 4}[first & 3]
        return first >> 2 & 0xF, position + 1 + width, int.from_bytes(data[position + 1 : position + 1 + width], "big")
    except (IndexError, KeyError) as err:
        raise ValueError("the keyring is truncated") from err
