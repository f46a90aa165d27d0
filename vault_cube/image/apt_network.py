"""How apt of this machine reaches a URL: proxy, login and certificates, from apt's own configuration.

Files of apt archives are fetched in this way; all others by the environment (http_proxy, NO_PROXY, REQUESTS_CA_BUNDLE).
Sources: apt.conf(5), apt-transport-http(1), apt-transport-https(1), apt_auth.conf(5); methods/http.cc in apt.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests

from vault_cube import process

DIRECT = {"direct", "false", "none"}
"""Values of a proxy that mean: no proxy; apt's own is DIRECT."""
DETECT_S = 20
"""Time limit of the program that detects a proxy, in seconds."""


@dataclass(frozen=True)
class AptNetwork:
    """The part of apt's configuration that decides how a URL is reached."""

    settings: Mapping[str, str]
    """Option in lower case → value."""

    @classmethod
    def of_machine(cls) -> AptNetwork:
        """Read the configuration of this machine's apt; empty if there is no apt."""
        try:
            dumped = process.run(["apt-config", "dump", "--no-empty", "--format", "%f=%v%n"]).stdout
        except process.CommandFailed:
            return cls({})
        options = (line.partition("=") for line in dumped.splitlines())
        return cls({name.lower(): value for name, _, value in options})

    def arguments(self, url: str) -> dict[str, Any]:
        """Return the keyword arguments of `requests.get` that reach a URL as apt does."""
        parts = urlsplit(url)
        arguments: dict[str, Any] = {"proxies": {parts.scheme: self._proxy(parts, url)}}
        if parts.username is None and (login := self._login(parts)):
            arguments["auth"] = login
        if parts.scheme == "https":
            arguments |= self._tls(parts.hostname or "")
        return arguments

    def _proxy(self, url: SplitResult, address: str) -> str:
        """Return the proxy's URL; an empty string for none."""
        host = (url.hostname or "").lower()
        schemes = ["https", "http"] if url.scheme == "https" else [url.scheme]
        proxy = next((value for scheme in schemes if (value := self._of(scheme, "proxy", host))), "")
        proxy = proxy or self._detected(url.scheme, host, address)
        proxy = proxy or next((value for scheme in schemes if (value := self._of(scheme, "proxy"))), "")
        if proxy.lower() in DIRECT:
            return ""
        # the environment counts only if apt's configuration names no proxy; no_proxy always counts
        if not proxy:
            return requests.utils.select_proxy(address, requests.utils.get_environ_proxies(address)) or ""
        return "" if requests.utils.should_bypass_proxies(address, None) else proxy

    def _detected(self, scheme: str, host: str, address: str) -> str:
        program = self._of(scheme, "proxy-auto-detect") or self._of(scheme, "proxyautodetect")
        return _run_detector(program, f"{scheme}://{host}/", address) if program else ""

    def _of(self, scheme: str, *names: str) -> str:
        return self.settings.get("::".join(("acquire", scheme, *names)).lower(), "")

    def _tls(self, host: str) -> dict[str, Any]:
        def of(name: str) -> str:
            return self._of("https", host, name) or self._of("https", name)

        arguments: dict[str, Any] = {}
        if of("verify-peer").lower() in {"false", "0", "no", "off"}:
            arguments["verify"] = False
        elif of("cainfo"):
            arguments["verify"] = of("cainfo")
        if of("sslcert"):
            arguments["cert"] = (of("sslcert"), of("sslkey") or of("sslcert"))
        return arguments

    def _login(self, url: SplitResult) -> tuple[str, str] | None:
        """Return user and password from auth.conf; without a scheme, an entry is for https only."""
        for machine, login, password in self._logins():
            scheme, separator, place = machine.rpartition("://")
            host, _, path = place.partition("/")
            if url.scheme != (scheme if separator else "https") or not url.path.startswith(f"/{path}"):
                continue
            if host.lower() in {url.hostname, f"{url.hostname}:{url.port}"}:
                return login, password
        return None

    def _logins(self) -> Iterator[tuple[str, str, str]]:
        etc = Path(self.settings.get("dir", "/")) / self.settings.get("dir::etc", "etc/apt")
        parts = etc / self.settings.get("dir::etc::netrcparts", "auth.conf.d")
        for file in (etc / self.settings.get("dir::etc::netrc", "auth.conf"), *sorted(parts.glob("*.conf"))):
            try:
                lines = file.read_text(errors="replace").splitlines()
            except OSError:
                continue
            words = [word for line in lines if not line.lstrip().startswith("#") for word in line.split()]
            entry: dict[str, str] = {}
            for name, value in zip(words[::2], words[1::2], strict=False):
                entry = {name: value} if name == "machine" else {**entry, name: value}
                if entry.keys() >= {"machine", "login", "password"}:
                    yield entry["machine"], entry["login"], entry["password"]


@lru_cache
def _run_detector(program: str, _host: str, address: str) -> str:
    """Return what a Proxy-Auto-Detect program answers for a URL: a proxy, DIRECT, or nothing. Asked once per host."""
    try:
        return process.run([program, address], ok=None, timeout_s=DETECT_S).stdout.partition("\n")[0].strip()
    except process.CommandFailed:
        return ""


def session(connections: int = 1, retries: int = 0) -> requests.Session:
    """Return a session for downloads that goes by the environment, and trusts the certificates of this machine.

    connections: maximum number per server.
    """
    opened = requests.Session()
    # REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE come first: requests itself reads them
    opened.verify = certificates() or True
    adapter = requests.adapters.HTTPAdapter(pool_maxsize=connections, max_retries=retries)
    for scheme in ("http://", "https://"):
        opened.mount(scheme, adapter)
    return opened


def certificates() -> str | None:
    """Return the file of this machine's trusted certificates; None if there is none, then requests uses its own."""
    own = [os.environ.get(name, "") for name in ("SSL_CERT_FILE", "PIP_CERT")]
    return next((file for file in (*own, "/etc/ssl/certs/ca-certificates.crt") if file and Path(file).is_file()), None)
