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
# OpenSSH, sshbuf.h: SSHBUF_MAX_BIGNUM is 16384 bits
RSA_MAX_BITS = 16384
BLANKS = " \t\r\n"
"""White space of sshd around keys and between their words."""
FOREIGN = (
    (r"---- BEGIN SSH2", "this is a key in the format of RFC 4716 (PuTTY): convert it with `ssh-keygen -i -f FILE`"),
    (r"PuTTY-User-Key-File", "this is a file of PuTTY: copy the public key for OpenSSH from PuTTYgen"),
    (r"-----BEGIN (RSA )?PUBLIC KEY", "this is a key in PEM format: convert it with `ssh-keygen -i -m PKCS8 -f FILE`"),
    (r"-----BEGIN PGP", "this is an OpenPGP key: use an ssh key, such as that of `gpg --export-ssh-key`"),
    (r"\S+-cert-v01@openssh\.com\b", "this is a certificate: use the public key itself, from the file without -cert"),
    (r"ssh-dss\b", "DSA keys are not accepted by sshd any more: use an ssh-ed25519 key"),
    (r"AAAA[A-Za-z0-9+/]+", "the key's type is missing before the key: copy the whole line"),
    (r"\S+\.pub$", "this is the name of a file: write the key that is in it"),
)
"""Beginnings of lines that people take for keys, and why each is refused."""
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


def public_keys(text: str) -> str:
    """Check an entry of ssh_keys, with the white space, empty lines and comment lines that sshd allows (sshd(8)).

    Returns its keys as lines of authorized_keys, with single blanks. Raises ValueError with the problem.
    """
    lines = [line.strip(BLANKS) for line in re.split(r"[\r\n]+", text)]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise secret("an ssh public key is missing here: remove the entry, or write the key")
    if _strange(lines[0]):
        raise secret(_strange(lines[0]))
    if any(not _strange(line) and line.split()[0] not in KEY_TYPES for line in lines[1:]):
        # a line that is nothing else is the rest of the one before it
        raise secret("an ssh public key must be one line: was it wrapped?")
    return "\n".join(public_key(line) for line in lines)


def public_key(line: str) -> str:
    """Check an OpenSSH public key: type, base64 whose first field repeats the type (RFC 4253, 6.6), comment.

    Returns the line with single blanks. Raises ValueError with the problem.
    """
    words = line.split()
    kind = words[0] if words else ""
    if kind not in KEY_TYPES:
        raise secret(_strange(line) or f"an ssh public key begins with its type, such as {', '.join(KEY_TYPES[:3])} …")
    try:
        blob = base64.b64decode(words[1] if len(words) > 1 else "", validate=True)
    except (binascii.Error, ValueError):
        raise secret("the key is incomplete: its second word is not base64: was it cut off or wrapped?") from None
    fields = _fields(blob)
    if not fields or fields[0] != kind.encode():
        raise secret(f"the key is incomplete, or its type is not {kind} as in its first word: copy it again")
    if not _sound(kind, fields):
        raise secret(f"the key is incomplete: its fields are not those of {kind}: copy it again")
    if kind == "ssh-rsa":
        bits = int.from_bytes(fields[2], "big").bit_length()
        if bits < RSA_BITS:
            raise secret(f"an RSA key needs at least {RSA_BITS} bits: use a longer one, or better an ssh-ed25519 key")
        if bits > RSA_MAX_BITS:
            raise secret(f"sshd accepts RSA keys of at most {RSA_MAX_BITS} bits: use an ssh-ed25519 key")
    return " ".join(words)


def _strange(line: str) -> str:
    """Return why a line that does not begin with a type of key is refused; empty if it is not recognised."""
    words = line.split()
    foreign = next((reason for pattern, reason in FOREIGN if re.match(pattern, line)), "")
    if foreign:
        return foreign
    if any(word in KEY_TYPES for word in words[1:]):
        return (
            "options before a key (from=…, command=…, restrict) are not supported: write only the type, the key and "
            "its comment"
        )
    if not words or words[0] in KEY_TYPES:
        return ""
    if not words[0][0].isascii():
        return f"begins with the invisible or foreign character U+{ord(words[0][0]):04X}: remove it"
    return ""


PublicKey = Annotated[str, AfterValidator(public_keys)]


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
