"""Install a vendor's apt keyring, and reject a key with another fingerprint."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

from vault_cube import openpgp

LIMIT = 1 << 20  # bytes to read at most; every signing key is much smaller than a megabyte


def present(name, url, fingerprint, sha256=None, staged=None):
    """
    Ensure that a keyring contains the key with this fingerprint, and no other.

    name
        keyring file, as in `Signed-By` of an apt source
    url
        URL at which the vendor publishes the key; fetched only if the file is missing or wrong
    fingerprint
        fingerprint of the primary key, 40 hex digits; a file with a second key is rejected, too
    sha256
        SHA-256 of the published file, if known
    staged
        file that a build has fetched before; read instead of the URL if it exists

    .. code-block:: yaml

        vendor's key is there:
          keyring.present:
            - name: /usr/share/keyrings/vendor.asc
            - url: https://vendor.example/key.asc
            - fingerprint: 0123456789ABCDEF0123456789ABCDEF01234567
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} contains the key {fingerprint}"}
    problem = _problem_now(Path(name), fingerprint)
    if not problem:
        return ret
    changes = {name: {"old": problem, "new": fingerprint}}
    if __opts__["test"]:
        return {**ret, "result": None, "changes": changes, "comment": f"{name} would get the key {fingerprint}"}
    source = staged if staged and Path(staged).is_file() else url
    try:
        data = Path(staged).read_bytes() if source == staged else _fetch(url)
        problem = _problem(data, fingerprint, sha256)
        if problem:
            return {
                **ret,
                "result": False,
                "comment": f"{source}: {problem}: not installed; ask the vendor for the right key, then fix the pillar",
            }
        _write(Path(name), data)
    except (OSError, urllib.error.URLError) as err:
        reason = getattr(err, "reason", None) or err
        return {**ret, "result": False, "comment": f"{source}: {reason}: apply again with a network connection"}
    return {**ret, "changes": changes, "comment": f"{name} now contains the key {fingerprint}"}


def _problem_now(file, fingerprint):
    """Return why the installed keyring has to be replaced; empty if it is right."""
    try:
        return _problem(file.read_bytes(), fingerprint, None)
    except OSError:
        return "the file does not exist"


def _problem(data, fingerprint, sha256):
    """Return why these bytes are not the expected keyring; empty if they are."""
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        return f"its sha256 is {hashlib.sha256(data).hexdigest()}, not {sha256}"
    try:
        fingerprints = openpgp.primary_keys(data)
    except ValueError as err:
        return str(err)
    return "" if fingerprints == [fingerprint] else f"it contains the key {', '.join(fingerprints)}, not {fingerprint}"


def _write(file, data):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    file.chmod(0o644)


def _fetch(url):
    if not url.startswith(("https://", "file://")):
        raise OSError("not an https:// URL: keys are fetched by https only")
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 the scheme is checked above
        return answer.read(LIMIT)
