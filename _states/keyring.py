"""A vendor's apt keyring, known by its fingerprint: the wrong key never reaches apt."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

from vault_cube import openpgp

LIMIT = 1 << 20  # no signing key is near a megabyte


def present(name, url, fingerprint, sha256=None, staged=None):
    """
    Ensure that a keyring holds the one key with this fingerprint.

    name
        the keyring file, named by `Signed-By` in a source
    url
        where the vendor publishes the key; asked only when the file is not right
    fingerprint
        of the primary key, 40 hex digits; a second key in the file is refused too
    sha256
        of the published file, where it is known
    staged
        a file that a build has fetched beforehand; read instead of the url

    .. code-block:: yaml

        vendor's key is there:
          keyring.present:
            - name: /usr/share/keyrings/vendor.asc
            - url: https://vendor.example/key.asc
            - fingerprint: 0123456789ABCDEF0123456789ABCDEF01234567
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} holds the key {fingerprint}"}
    file = Path(name)
    try:
        wrong = _wrong(file.read_bytes(), fingerprint, None)
    except OSError:
        wrong = "the file is not there"
    if not wrong:
        return ret
    changes = {name: {"old": wrong, "new": fingerprint}}
    if __opts__["test"]:
        return {**ret, "result": None, "changes": changes, "comment": f"{name} would get the key {fingerprint}"}
    source = staged if staged and Path(staged).is_file() else url
    try:
        data = Path(staged).read_bytes() if source == staged else _fetch(url)
        refused = _wrong(data, fingerprint, sha256)
        if refused:
            return {
                **ret,
                "result": False,
                "comment": f"{source}: {refused}: not installed; ask the vendor, then the pillar",
            }
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o644)
    except (OSError, urllib.error.URLError) as err:
        reason = getattr(err, "reason", None) or err
        return {**ret, "result": False, "comment": f"{source}: {reason}: fetch the key where there is a network"}
    return {**ret, "changes": changes, "comment": f"{name} got the key {fingerprint}"}


def _wrong(data, fingerprint, sha256):
    """Why these bytes are not the keyring that is asked for; empty when they are."""
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        return f"its sha256 is {hashlib.sha256(data).hexdigest()}, not {sha256}"
    try:
        found = openpgp.primary_keys(data)
    except ValueError as err:
        return str(err)
    return "" if found == [fingerprint] else f"it holds the key {', '.join(found)}, not {fingerprint}"


def _fetch(url):
    if not url.startswith(("https://", "file://")):
        raise OSError("a key is fetched by https only")
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 the scheme was looked at
        return answer.read(LIMIT)
