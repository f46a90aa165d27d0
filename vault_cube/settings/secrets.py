"""What a pillar never holds: passwords, their hashes, private keys. A refused secret is not repeated in the message."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
             "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")  # fmt: skip
# the least since 2014: NIST SP 800-131A, table 2
RSA_BITS = 2048
SECRET_KEY = re.compile(r"passw(or)?d|passphrase|pw_?hash|secret|private_?key", re.I)
# crypt(5): $id$…, with the ids of md5, bcrypt, sha256, sha512, yescrypt, scrypt, gost
CRYPT_HASH = re.compile(r"^\$(1|2[abxy]|5|6|y|7|gy)\$")


def secret(message: str, below: tuple[str, ...] = ()) -> PydanticCustomError:
    """The error for a value that must not be shown; the schema's sentences leave its input out.

    below: the rest of the key's path, where the whole section is looked at.
    """
    return PydanticCustomError("secret", "{what}", {"what": message, "below": below})


def no_secrets(given: Any, path: tuple[str, ...] = ()) -> None:
    """Refuse a mapping with a key that is named like a password, or a value that is a hash or a private key.

    given: any pillar value. Raises an error that names the key and hides the value.
    """
    if isinstance(given, Mapping):
        for key, value in given.items():
            if SECRET_KEY.search(str(key)):
                raise secret("a pillar holds no password and no secret; use ssh keys", (*path, str(key)))
            no_secrets(value, (*path, str(key)))
    elif isinstance(given, list):
        for number, value in enumerate(given):
            no_secrets(value, (*path, str(number)))
    elif isinstance(given, str):
        if CRYPT_HASH.match(given):
            raise secret("this is the hash of a password: accounts have none; use ssh keys", path)
        if "PRIVATE KEY" in given:
            raise secret("this is a private key: give the public half, the file that ends in .pub", path)


def public_key(line: str) -> str:
    """Read an OpenSSH public key: type, base64 whose first field repeats the type (RFC 4253, 6.6), comment.

    Returns the line. Raises ValueError, saying what is wrong with it.
    """
    kind, _, rest = line.partition(" ")
    if kind not in KEY_TYPES:
        raise secret(f"an ssh public key begins with one of {', '.join(KEY_TYPES[:3])} …")
    if "\n" in line:
        raise secret("an ssh public key is one line: was it wrapped?")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except (binascii.Error, ValueError):
        raise secret("the key's second word is not base64: was it cut off or wrapped?") from None
    fields = _fields(blob)
    if not fields or fields[0] != kind.encode():
        raise secret(f"the key is not whole, or is not of the type {kind} that it says")
    if not _sound(kind, fields):
        raise secret(f"the key is not whole: its parts are not those of {kind}")
    if kind == "ssh-rsa" and int.from_bytes(fields[2], "big").bit_length() < RSA_BITS:
        raise secret(f"an RSA key needs {RSA_BITS} bits or more; better, make an ssh-ed25519 key")
    return line


PublicKey = Annotated[str, AfterValidator(public_key)]


def _fields(blob: bytes) -> list[bytes]:
    """The length-prefixed fields of a key (RFC 4251, 5: string); nothing when they do not add up to the blob."""
    fields = []
    while blob:
        end = 4 + int.from_bytes(blob[:4], "big")
        if len(blob) < 4 or len(blob) < end:
            return []
        fields.append(blob[4:end])
        blob = blob[end:]
    return fields


def _sound(kind: str, fields: list[bytes]) -> bool:
    """Whether the fields are those of the type (RFC 4253 6.6, RFC 5656 3.1, RFC 8709 4, OpenSSH's PROTOCOL.u2f)."""
    sizes = [len(field) for field in fields]
    if kind == "ssh-rsa":
        return len(sizes) == 3 and min(sizes) > 0
    if "ed25519" in kind:
        return sizes[1:2] == [32] and len(sizes) == (3 if kind.startswith("sk-") else 2)
    curve = kind.rpartition("-")[2].split("@")[0]
    point = {"nistp256": 65, "nistp384": 97, "nistp521": 133}[curve]
    return fields[1:2] == [curve.encode()] and sizes[2:3] == [point] and len(sizes) == (4 if kind[:2] == "sk" else 3)
