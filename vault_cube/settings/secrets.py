"""Reject passwords, password hashes and private keys in a pillar, with messages that do not contain the secret."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
             "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")  # fmt: skip
# minimum since 2014: NIST SP 800-131A, table 2
RSA_BITS = 2048
SECRET_KEY = re.compile(r"passw(or)?d|passphrase|pw_?hash|secret|private_?key", re.I)
# crypt(5): $id$…, with the ids of md5, bcrypt, sha256, sha512, yescrypt, scrypt, gost
CRYPT_HASH = re.compile(r"^\$(1|2[abxy]|5|6|y|7|gy)\$")


def secret(message: str, below: tuple[str, ...] = ()) -> PydanticCustomError:
    """Return an error for a value that must not be shown: messages about it do not contain the value.

    below: the rest of the key's path, if the validator checks a whole section.
    """
    return PydanticCustomError("secret", "{what}", {"what": message, "below": below})


def no_secrets(given: Any, path: tuple[str, ...] = ()) -> None:
    """Reject keys that are named like a password, and values that are a password hash or a private key.

    given: any pillar value. path: its path. Raises an error that names the key and not the value.
    """
    if isinstance(given, Mapping):
        for key, value in given.items():
            if SECRET_KEY.search(str(key)):
                raise secret("a pillar must not contain passwords or secrets: use ssh keys", (*path, str(key)))
            no_secrets(value, (*path, str(key)))
    elif isinstance(given, list):
        for number, value in enumerate(given):
            no_secrets(value, (*path, str(number)))
    elif isinstance(given, str):
        if CRYPT_HASH.match(given):
            raise secret("this is a password hash, but accounts have no passwords: use ssh keys", path)
        if "PRIVATE KEY" in given:
            raise secret("this is a private key: use the public key, from the file that ends in .pub", path)


def public_key(line: str) -> str:
    """Check an OpenSSH public key: type, base64 whose first field repeats the type (RFC 4253, 6.6), comment.

    Returns the line. Raises ValueError with the problem.
    """
    kind, _, rest = line.partition(" ")
    if kind not in KEY_TYPES:
        raise secret(f"an ssh public key begins with its type, such as {', '.join(KEY_TYPES[:3])} …")
    if "\n" in line:
        raise secret("an ssh public key must be one line: was it wrapped?")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except (binascii.Error, ValueError):
        raise secret("the key's second word is not base64: was the key cut off or wrapped?") from None
    fields = _fields(blob)
    if not fields or fields[0] != kind.encode():
        raise secret(f"the key is incomplete, or its type is not {kind} as in its first word: copy it again")
    if not _sound(kind, fields):
        raise secret(f"the key is incomplete: its fields are not those of {kind}: copy it again")
    if kind == "ssh-rsa" and int.from_bytes(fields[2], "big").bit_length() < RSA_BITS:
        raise secret(f"an RSA key needs at least {RSA_BITS} bits: use a longer one, or better an ssh-ed25519 key")
    return line


PublicKey = Annotated[str, AfterValidator(public_key)]


def _fields(blob: bytes) -> list[bytes]:
    """Split a key into its length-prefixed fields (RFC 4251, 5: string). Returns [] if the key is cut off."""
    fields = []
    while blob:
        end = 4 + int.from_bytes(blob[:4], "big")
        if len(blob) < 4 or len(blob) < end:
            return []
        fields.append(blob[4:end])
        blob = blob[end:]
    return fields


def _sound(kind: str, fields: list[bytes]) -> bool:
    """Return whether the fields match the key type (RFC 4253 6.6, RFC 5656 3.1, RFC 8709 4, OpenSSH's PROTOCOL.u2f)."""
    sizes = [len(field) for field in fields]
    if kind == "ssh-rsa":
        return len(sizes) == 3 and min(sizes) > 0
    if "ed25519" in kind:
        return sizes[1:2] == [32] and len(sizes) == (3 if kind.startswith("sk-") else 2)
    curve = kind.rpartition("-")[2].split("@")[0]
    point = {"nistp256": 65, "nistp384": 97, "nistp521": 133}[curve]
    return fields[1:2] == [curve.encode()] and sizes[2:3] == [point] and len(sizes) == (4 if kind[:2] == "sk" else 3)
