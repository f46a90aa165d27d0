"""One setting of Python package indexes for pip and uv: what is set for one of them applies to the other, too.

uv does not read pip's configuration, and pip not uv's. For scripts/venv.sh, which has only the standard library,
`python3 -m vault_cube.image.locks.indexes` prints the variables as commands of sh, and with the name of a log as its
argument the reason why pip or uv failed.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from vault_cube import process
from vault_cube.redact import redacted

SYSTEM_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

# sections of pip's configuration, the last one counts
SECTIONS = ("global", "install", "download", ":env:")

UV = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "find-links": ("UV_FIND_LINKS",),
    "no-index": ("UV_NO_INDEX",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "cert": ("SSL_CERT_FILE",),
    "client-cert": ("SSL_CLIENT_CERT",),
    "proxy": ("ALL_PROXY",),
}
"""pip's options and the variables of uv that mean the same; the first one is written."""


PLACES = {name for option in ("index-url", "extra-index-url", "find-links", "no-index") for name in UV[option]}
"""Variables of uv that name places of packages."""


FAILURES = (
    (r"(?:TLS CA certificate bundle, invalid path|Failed to open file|SSL_CERT_FILE)[^\n]*", "correct PIP_CERT"),
    (
        r"certificate verify failed[^('\"\n]*|invalid peer certificate: \w+",
        "set PIP_CERT to the file of the CA's certificates, as for a proxy of your company",
    ),
    (r"Tunnel connection failed: [^'\")\n]+|tunnel error: [^\n]+", "correct https_proxy"),
    (r"Cannot connect to proxy|ProxyError|proxyconnect", "correct https_proxy"),
    (
        r"\[Errno -\d+\] [^'\"\n]+|dns error|(?:Connection|Network|No route)[^'\"\n(]*(?:refused|unreachable|to host)"
        r"|[Oo]peration timed out|Read timed out|connect timeout|timed out",
        "set PIP_INDEX_URL to an index that this machine reaches, or https_proxy; without a network see "
        "docs/how-to/air-gap.md",
    ),
    (
        r"HTTP status client error \(40[137] [^)]+\)|401 Unauthorized|403 Forbidden",
        "correct the login in PIP_INDEX_URL",
    ),
    (
        r"DO NOT MATCH THE HASHES|[Hh]ash mismatch[^\n]*",
        "the index has other files than the lock: set PIP_INDEX_URL to another one",
    ),
    (r"No space left on device", "make room"),
    (
        # pip 24.2 and later, for the certificate of an address without a name
        r"check_hostname requires server_hostname",
        "pip verifies certificates of names only: set PIP_INDEX_URL to an address with the index's name",
    ),
    (
        r"No matching distribution found for [^\n]+|(?<=Because )\S+ was not found in the package registry",
        # pip also reports a refused login like this
        "set PIP_INDEX_URL or PIP_EXTRA_INDEX_URL to an index that has it, with your login if it asks for one",
    ),
)
"""Pattern in the output of pip or uv -> what to do; the first pattern that matches counts."""


def explained(output: str) -> str:
    """Return in one line why pip or uv failed, and what to do, from its output on stderr."""
    text = output.replace("\\'", "'")
    address = next(iter(re.findall(r"https?://[^\s`'\")]+", text)), "")
    for pattern, remedy in FAILURES:
        match = re.search(pattern, text)
        if match:
            reason = " ".join(match[0].split())
            return ": ".join(part for part in (address, reason, remedy) if part)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # uv explains a conflict of requirements in the lines below the error
    first = next((number for number, line in enumerate(lines) if re.match("error", line, re.IGNORECASE)), 0)
    if "Traceback (most recent call last):" in lines:
        # a fault of pip's own; the cause is the last line
        first = len(lines) - 1
    error = re.sub(r"^error: *", "", " ".join(lines[first:]), flags=re.IGNORECASE)
    return error[:400] or "no reason given"


def pip_settings() -> dict[str, str]:
    """Return pip's options, from its files and its environment; lists are separated by blanks."""
    ran = process.run([sys.executable, "-m", "pip", "config", "list"], ok=None)
    settings: dict[str, tuple[int, str]] = {}
    for line in ran.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section not in SECTIONS or name not in UV:
            continue
        rank = SECTIONS.index(section)
        if rank >= settings.get(name, (0, ""))[0]:
            settings[name] = (rank, " ".join(str(ast.literal_eval(value)).split()))
    values = {name: _present(name, value) for name, (_, value) in settings.items()}
    return {name: value for name, value in values.items() if value}


def _present(option: str, value: str) -> str:
    """Leave out folders that do not exist, as pip does; for uv they are an error."""
    if option not in {"index-url", "extra-index-url", "find-links"}:
        return value
    return " ".join(
        place for place in value.split() if not place.startswith(("/", "file:")) or Path(urlsplit(place).path).exists()
    )


def environment(own: Mapping[str, str] | None = None, pip: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables to set so that pip and uv use the same indexes and certificates.

    own: the environment; None: this process's. pip: pip's options; None: as `pip_settings` reads them.
    """
    own = os.environ if own is None else own
    pip = pip_settings() if pip is None else pip
    variables: dict[str, str] = {}
    for option, names in UV.items():
        of_uv = next((own[name] for name in names if own.get(name)), "")
        if option in pip and not of_uv:
            variables[names[0]] = _for_uv(option, pip[option])
        elif of_uv and option not in pip and option != "proxy":
            variables[f"PIP_{option.upper().replace('-', '_')}"] = _for_pip(option, of_uv)
    if "UV_NO_INDEX" in variables and variables["UV_NO_INDEX"].lower() in {"0", "false", "no", "off"}:
        del variables["UV_NO_INDEX"]
    if not own.get("SSL_CERT_FILE") and "SSL_CERT_FILE" not in variables:
        bundles = (own.get("REQUESTS_CA_BUNDLE", ""), own.get("CURL_CA_BUNDLE", ""), SYSTEM_CERTIFICATES)
        certificates = next((file for file in bundles if file and Path(file).is_file()), None)
        if certificates:
            variables["SSL_CERT_FILE"] = certificates
    # pip takes the best file of all indexes, uv by default only files of the first index that has the package
    if not own.get("UV_INDEX_STRATEGY"):
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return variables


def _for_uv(option: str, value: str) -> str:
    return value.replace(" ", ",") if option == "find-links" else value


def _for_pip(option: str, value: str) -> str:
    if option == "find-links":
        return " ".join(value.replace(",", " ").split())
    if option == "extra-index-url":
        # uv's indexes may have a name: NAME=URL
        return " ".join(
            place.partition("=")[2] if "://" not in place.partition("=")[0] and "=" in place else place
            for place in value.split()
        )
    return value


if __name__ == "__main__":
    if sys.argv[1:]:
        print(redacted(explained(Path(sys.argv[1]).read_text(errors="replace"))))
        sys.exit()
    for variable, wanted in environment().items():
        print(f"export {variable}={shlex.quote(wanted)}")
