"""Which OpenPGP keys a keyring file holds, by fingerprint; needs no gpg on the box."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

PUBLIC_KEY = 6


def primary_keys(data: bytes) -> list[str]:
    """The fingerprints of all primary keys in a keyring, armoured or binary.

    data: the file's bytes. Returns 40 upper-case hex digits each. Raises ValueError for anything else than
    a keyring with version 4 keys. Source: RFC 9580, sections 4.2 (packets), 5.5.4.2 (fingerprints), 6 (armour).
    """
    if b"-----BEGIN PGP PUBLIC KEY BLOCK-----" in data:
        data = _dearmoured(data)
    found = []
    position = 0
    while position < len(data):
        tag, position, length = _header(data, position)
        body = data[position : position + length]
        if len(body) != length:
            raise ValueError("the keyring is cut off")
        if tag == PUBLIC_KEY:
            if body[:1] != b"\x04":
                raise ValueError("the keyring holds a key that is not of version 4")
            found.append(
                hashlib.sha1(b"\x99" + length.to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper()
            )
        position += length
    if not found:
        raise ValueError("there is no public key in it")
    return found


def _dearmoured(data: bytes) -> bytes:
    blocks = re.findall(
        rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+\r?\n)*?\r?\n(.*?)(?:=[A-Za-z0-9+/]{4}\s*)?-----END PGP",
        data, re.DOTALL,
    )  # fmt: skip
    try:
        return b"".join(base64.b64decode(b"".join(block.split()), validate=True) for block in blocks)
    except binascii.Error:
        raise ValueError("its armour is damaged") from None


def _header(data: bytes, position: int) -> tuple[int, int, int]:
    """A packet's tag, where its body begins, and its length."""
    first = data[position]
    if not first & 0x80:
        raise ValueError("it is not a keyring")
    try:
        if first & 0x40:
            size = data[position + 1]
            if size < 192:
                return first & 0x3F, position + 2, size
            if size < 224:
                return first & 0x3F, position + 3, (size - 192 << 8) + data[position + 2] + 192
            if size == 255:
                return first & 0x3F, position + 6, int.from_bytes(data[position + 2 : position + 6], "big")
            raise ValueError("it has a packet of unknown length")
        width = {0: 1, 1: 2, 2: 4}[first & 3]
        return first >> 2 & 0xF, position + 1 + width, int.from_bytes(data[position + 1 : position + 1 + width], "big")
    except (IndexError, KeyError):
        raise ValueError("the keyring is cut off") from None
