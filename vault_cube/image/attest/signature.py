"""A detached signature over SHA256SUMS by an ssh key (see docs/decisions/signed-by-ssh-keys.md)."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from vault_cube.errors import VaultCubeError

NAMESPACE = "vault-cube-image"
"""what the signature is for: one made with the same key for another purpose does not pass"""


def of(sums: Path) -> Path:
    """Where the signature of a file lies."""
    return sums.with_name(sums.name + ".sig")


def sign(sums: Path, key: Path) -> Path:
    """Sign a file. key: a private ssh key, or the public half of one that an agent holds. Returns the signature."""
    if not key.is_file():
        raise VaultCubeError(f"{key}: no such key: name a private ssh key, or the .pub of one in your agent")
    if not sums.is_file():
        raise VaultCubeError(f"{sums}: nothing to sign: run `make image` first")
    of(sums).unlink(missing_ok=True)
    # a passphrase is asked for on the terminal
    ran = _keygen(["-Y", "sign", "-n", NAMESPACE, "-f", key, sums])
    if ran.returncode or not of(sums).is_file():
        raise VaultCubeError(f"{key}: ssh-keygen cannot sign with it: {_reason(ran.stderr)}")
    return of(sums)


def verify(sums: Path, signers: Path) -> str:
    """Check a file's signature. signers: an allowed_signers file (man ssh-keygen), or one public key.

    Returns who signed. Raises VaultCubeError when there is no signature, or none of a signer.
    """
    signature = of(sums)
    if not signature.is_file():
        raise VaultCubeError(f"{signature.name}: missing: the image is not signed")
    with tempfile.TemporaryDirectory() as folder:
        allowed = _allowed(signers, Path(folder))
        ran = _keygen(["-Y", "find-principals", "-s", signature, "-f", allowed])
        signer = ran.stdout.decode().split("\n")[0].strip()
        if ran.returncode or not signer:
            raise VaultCubeError(f"{signature.name}: not made by a key in {signers}")
        ran = _keygen(
            ["-Y", "verify", "-f", allowed, "-I", signer, "-n", NAMESPACE, "-s", signature], stdin=sums.read_bytes()
        )
        if ran.returncode:
            raise VaultCubeError(
                f"{signature.name}: does not fit {sums.name}, which was changed after it was signed "
                "or is another image's"
            )
        # `Good "vault-cube-image" signature for NAME with ED25519 key SHA256:…`
        return ran.stdout.decode().partition(" signature for ")[2].strip()


def _allowed(signers: Path, folder: Path) -> Path:
    """An allowed_signers file; made of a lone public key, whose comment is then the name."""
    try:
        text = signers.read_text()
    except (OSError, UnicodeDecodeError):
        raise VaultCubeError(f"{signers}: not a readable file: name a public key or an allowed_signers file") from None
    if "PRIVATE KEY" in text:
        raise VaultCubeError(f"{signers}: a private key: name its public half, {signers}.pub")
    words = text.split()
    if not words or not words[0].startswith(("ssh-", "ecdsa-", "sk-")):
        return signers
    name = words[2] if len(words) > 2 and "," not in words[2] else signers.name
    (folder / "signers").write_text(f'{name} namespaces="{NAMESPACE}" {words[0]} {words[1]}\n')
    return folder / "signers"


def _keygen(arguments: list[str | Path], stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=stdin, capture_output=True, check=False)
    except FileNotFoundError:
        raise VaultCubeError("ssh-keygen is missing: install openssh-client") from None


def _reason(text: bytes) -> str:
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip(" @\r")]
    return lines[0].strip(" @\r") if lines else "no reason given"
