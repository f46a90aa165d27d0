"""Sign SHA256SUMS with an ssh key, and verify the signature (see docs/decisions/signed-by-ssh-keys.md)."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
from pathlib import Path

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.settings import secrets

NAMESPACE = "vault-cube-image"
"""The signature's namespace: a signature that the same key made for another purpose is not valid."""


def of(sums: Path) -> Path:
    """Return the path of the signature of a file."""
    return sums.with_name(sums.name + ".sig")


def sign(sums: Path, key: Path, namespace: str = NAMESPACE) -> Path:
    """Sign a file. Returns the path of the signature.

    key: file of a private ssh key, or of a public key whose private key is in the ssh agent. namespace: what the
    signature is for.
    Raises VaultCubeError if a file is missing or ssh-keygen cannot sign.
    """
    if not key.is_file():
        raise VaultCubeError(f"{key}: no such file: name a private ssh key, or the public half of a key in your agent")
    if not sums.is_file():
        raise VaultCubeError(f"{sums}: nothing to sign: run `make image` first")
    of(sums).unlink(missing_ok=True)
    # ssh-keygen asks for a passphrase on the terminal
    ran = _keygen(["-Y", "sign", "-n", namespace, "-f", key, sums], interactive=True)
    if ran.returncode or not of(sums).is_file():
        raise VaultCubeError(f"{key}: ssh-keygen cannot sign with this key: {_reason(ran.stderr)}")
    return of(sums)


def key_id(file: Path) -> str:
    """Return 12 hexadecimal digits that identify the key of a signature: the start of its public half's SHA-256."""
    blob = base64.b64decode("".join(file.read_text().splitlines()[1:-1]))
    # OpenSSH, PROTOCOL.sshsig: "SSHSIG", the version in 4 bytes, the length of the public key in 4 bytes, the key
    size = int.from_bytes(blob[10:14])
    return hashlib.sha256(blob[14 : 14 + size]).hexdigest()[:12]


def verify(sums: Path, signers: Path, namespace: str = NAMESPACE) -> str:
    """Verify a file's signature. Returns the name and the key of the signer, such as `anna with ED25519 key SHA256:…`.

    signers: an allowed_signers file (man ssh-keygen), or a public key. namespace: what the signature has to be for.
    Raises VaultCubeError if the signature is missing or invalid, or was not made by one of the signers.
    """
    signature = of(sums)
    if not signature.is_file():
        raise VaultCubeError(f"{signature.name}: missing, so {sums.name} is not signed")
    with tempfile.TemporaryDirectory() as folder:
        allowed = _allowed(signers, Path(folder), namespace)
        ran = _keygen(["-Y", "find-principals", "-s", signature, "-f", allowed])
        # an allowed_signers file may give one key several names, separated by commas
        signer = ran.stdout.split("\n")[0].split(",")[0].strip()
        if ran.returncode or not signer:
            raise VaultCubeError(f"{signature.name}: not made with a key in {signers}")
        ran = _keygen(
            ["-Y", "verify", "-f", allowed, "-I", signer, "-n", namespace, "-s", signature], stdin=sums.read_bytes()
        )
        if ran.returncode:
            raise VaultCubeError(
                f"{signature.name}: not a signature of this {sums.name}, which was changed after it was signed or "
                "belongs to another image"
            )
        # ssh-keygen prints: Good "vault-cube-image" signature for NAME with ED25519 key SHA256:…
        return ran.stdout.partition(" signature for ")[2].strip()


def _allowed(signers: Path, folder: Path, namespace: str) -> Path:
    """Write an allowed_signers file. A public key among the lines gets its comment or the file's name as its name."""
    try:
        text = signers.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise VaultCubeError(f"{signers}: not a readable file: name a public key or an allowed_signers file") from err
    if "PRIVATE KEY" in text:
        raise VaultCubeError(f"{signers}: this is a private key: name its public half, {signers}.pub")
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if set(words[1:]).intersection(secrets.KEY_TYPES):
            lines.append(line.strip())  # a line of allowed_signers: principals, options, key
            continue
        try:
            kind, key, *comment = secrets.public_key(line).split(" ")
        except ValueError as err:
            raise VaultCubeError(f"{signers}: line {number}: {err}") from err
        # in a name, some characters are patterns or separators
        name = re.sub(r"[^\w.@+-]+", "_", " ".join(comment)) or signers.name
        lines.append(f'{name} namespaces="{namespace}" {kind} {key}')
    if not lines:
        raise VaultCubeError(f"{signers}: contains no key: name a public key or an allowed_signers file")
    (folder / "signers").write_text("".join(f"{line}\n" for line in lines))
    return folder / "signers"


def _keygen(arguments: list[str | Path], stdin: bytes | None = None, *, interactive: bool = False) -> process.Result:
    process.required("ssh-keygen", "openssh-client")
    return process.run(["ssh-keygen", *arguments], input=stdin, interactive=interactive, ok=None)


def _reason(text: str) -> str:
    """Return the first line of an error output that is not decoration."""
    lines = [line for line in text.splitlines() if line.strip(" @\r")]
    return lines[0].strip(" @\r") if lines else "no reason given"
