"""pepper with verified TLS and true exit codes: `fleet-pepper`, used like `pepper`.

salt-pepper 0.7.6 does not start beside setuptools 82, which has no pkg_resources; it verifies no certificate; and it
exits with 0 whatever the boxes return. The fleet's authority is SALTAPI_CA, in the environment or in ~/.pepperrc.
Exit code: the highest one of a box; 1 if an answer is missing or a runner failed; 2 if no box was asked.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import importlib.util
import json
import os
import signal
import ssl
import sys
import types
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vault_cube.errors import VaultCubeError

NO_ANSWER, NOBODY = 1, 2


def exit_code(returned: Sequence[Any]) -> int:
    """Return the exit code for what salt-api returned: a list with one entry per request."""
    if not returned or not all(returned):
        return NOBODY
    codes = []
    for answer in returned:
        if not isinstance(answer, Mapping):
            codes.append(0 if answer else NO_ANSWER)
        elif "data" in answer and "tag" in answer:  # a runner
            codes.append(_of_runner(answer["data"]))
        elif "jid" in answer:  # started, and nothing is known yet
            codes.append(0 if answer.get("minions") or "tag" in answer else NOBODY)
        else:
            codes += [_of_box(value) for value in answer.values()]
    return max(codes, default=NOBODY)


def _of_box(value: Any) -> int:
    if not isinstance(value, Mapping) or "retcode" not in value:
        return NO_ANSWER
    code = value["retcode"]
    # a code above 255 would wrap around to 0, and one of a signal is negative
    return code if isinstance(code, int) and 0 <= code <= 255 else 255


def _of_runner(data: Any) -> int:
    if not isinstance(data, Mapping):
        return NO_ANSWER
    inner = data.get("return")
    code = inner.get("retcode", 0) if isinstance(inner, Mapping) else 0
    if not isinstance(code, int):
        return NO_ANSWER
    return code if data.get("success") else code or NO_ANSWER


def authority(environment: Mapping[str, str], arguments: Sequence[str]) -> str | None:
    """Return the certificate authority: SALTAPI_CA of the environment or of ~/.pepperrc; None: those of the system.

    Raises VaultCubeError if the file does not exist or has no certificate.
    """
    file = environment.get("SALTAPI_CA") or _configured(environment, arguments, "SALTAPI_CA")
    if not file:
        return None
    path = Path(file).expanduser()
    try:
        if "BEGIN CERTIFICATE" in path.read_text():
            return str(path)
    except (OSError, UnicodeDecodeError) as err:
        raise VaultCubeError(f"SALTAPI_CA: {path}: cannot read it: {getattr(err, 'strerror', 'not text')}") from err
    raise VaultCubeError(f"SALTAPI_CA: {path}: no certificate in it: copy tls/ca.crt of the master")


def checked(environment: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Refuse what would send a password to an unknown server. Raises VaultCubeError."""
    if any(argument in ("-k", "--ignore-ssl-errors") for argument in arguments):
        raise VaultCubeError("--ignore-ssl-errors would send the password to anybody: set SALTAPI_CA instead")
    url = environment.get("SALTAPI_URL") or _configured(environment, arguments, "SALTAPI_URL") or ""
    urls = [url, *(value for value in _option(arguments, "-u", "--saltapi-url"))]
    if plain := [value for value in urls if value.lower().startswith("http://")]:
        raise VaultCubeError(f"{plain[0]}: would send the password in clear text: use https")


def _option(arguments: Sequence[str], short: str, long: str) -> list[str]:
    values = []
    for number, argument in enumerate(arguments):
        if argument in (short, long):
            values += list(arguments[number + 1 : number + 2])
        elif argument.startswith(f"{long}="):
            values.append(argument.partition("=")[2])
        elif argument.startswith(short) and len(argument) > len(short) and not argument.startswith("--"):
            values.append(argument[len(short) :])
    return values


def _configured(environment: Mapping[str, str], arguments: Sequence[str], name: str) -> str | None:
    """Return a value of ~/.pepperrc, as pepper reads it."""
    files = [*_option(arguments, "-c", "--config"), environment.get("PEPPERRC", "")]
    file = next(filter(None, files), None) or str(Path("~/.pepperrc").expanduser())
    profile = next(iter(_option(arguments, "-p", "--profile")), "main")
    config = configparser.RawConfigParser()
    try:
        config.read(file)
        return config.get(profile, name, fallback=None)
    except (configparser.Error, UnicodeDecodeError) as err:
        raise VaultCubeError(f"{file}: cannot read it: {str(err).splitlines()[0]}") from err


def provide_pkg_resources() -> None:
    """Provide what pepper imports from pkg_resources, which setuptools 82 no longer has."""
    if "pkg_resources" not in sys.modules and importlib.util.find_spec("pkg_resources") is None:
        stub: Any = types.ModuleType("pkg_resources")
        stub.get_distribution = importlib.metadata.distribution
        stub.DistributionNotFound = importlib.metadata.PackageNotFoundError
        sys.modules["pkg_resources"] = stub


def opened(request: urllib.request.Request, **options: Any) -> Any:
    """Send a request. Raises pepper's own exception, which it prints in one line, for what it would show in full."""
    from pepper.exceptions import PepperException

    try:
        return urllib.request.urlopen(request, **options)  # noqa: S310 `checked` refuses all but https
    except urllib.error.HTTPError as err:
        if err.code in (401, 500):  # pepper has a line for these
            raise
        answer = err.read(2000).decode(errors="replace").strip()
        try:
            answer = str(json.loads(answer)["return"])
        except (ValueError, KeyError, TypeError):
            answer = err.reason if "<" in answer or not answer else answer
        raise PepperException(f"{request.full_url}: {err.code}: {' '.join(str(answer).split())[:300]}") from err
    except OSError as err:
        raise PepperException(f"{request.full_url}: {getattr(err, 'reason', None) or err}") from err


def interruptible(request: urllib.request.Request, **options: Any) -> Any:
    """Do what `opened` does; from now on, Ctrl-C ends the process at once.

    A handler in Python runs after a blocked read has returned, and the read of a TLS handshake does not return if the
    signal came just before it. pepper has asked for user and password before its first request: nothing is left undone.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return opened(request, **options)


def interrupted(*_: object) -> None:
    """End with the exit code of Ctrl-C; pepper would end with 0."""
    sys.exit(130)


def main(arguments: Sequence[str]) -> int:
    """Run pepper. Returns the exit code."""
    try:
        checked(os.environ, arguments)
        ca = authority(os.environ, arguments)
    except VaultCubeError as err:
        print(f"fleet-pepper: {err}", file=sys.stderr)
        return 1
    provide_pkg_resources()
    import pepper.libpepper
    import pepper.script

    # pepper replaced this by a context without verification when it was imported
    ssl._create_default_https_context = lambda *_, **__: ssl.create_default_context(cafile=ca)
    pepper.script.PepperRetcode.validate = staticmethod(
        lambda _options, result: exit_code(json.loads(result)["return"] if isinstance(result, str) else result)
    )
    pepper.libpepper.urlopen = interruptible
    signal.signal(signal.SIGINT, interrupted)
    sys.argv = ["fleet-pepper", *arguments]
    return int(pepper.script.Pepper()() or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
