"""The checkout's `salt-call`: it finds the checkout's configuration from any folder.

Salt reads the Saltfile of the current folder only, and the configuration of a checkout has relative paths. From another
folder, Salt would look for a master named `salt` in the network and write to /etc/salt and /var/log/salt. This module
then writes the same configuration with absolute paths to `.salt/conf`, or below `~/.cache/vault-cube` for a user who
may not write to `.salt`. scripts/venv.sh makes `.venv/bin/salt-call` run it.
"""

from __future__ import annotations

import glob
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

SCRATCH = ".salt"
"""Folder of the checkout for everything that Salt writes."""

OPTIONS = ("-c", "--config-dir", "--saltfile")
"""Options of salt-call that name another configuration."""


def main() -> None:
    """Run salt-call with the arguments of this process. They may name a configuration other than the checkout's."""
    checkout = Path(__file__).resolve().parents[1]
    # _grains/quiet.py goes by this name
    sys.argv[0] = "salt-call"
    scratch = scratch_folder(checkout)
    if not configured(sys.argv[1:], scratch == checkout / SCRATCH):
        try:
            os.environ["SALT_SALTFILE"] = str(write(checkout, scratch))
        except OSError as err:
            sys.exit(
                f"salt-call: cannot write {err.filename} ({err.strerror}): set XDG_CACHE_HOME to a folder of your own"
            )
    from salt.scripts import salt_call

    salt_call()


def scratch_folder(checkout: Path) -> Path:
    """Return the folder for Salt's cache and log: the checkout's `.salt`, or one of this user if that is another's.

    After `sudo make image`, salt-call therefore also works without sudo.
    """
    own = checkout / SCRATCH
    inside = (path for pattern in ("*", "cache/*", "cache/roots/*") for path in own.glob(pattern))
    written = (own if own.exists() else checkout, *inside)
    if (own.is_dir() or not own.exists()) and all(os.access(path, os.W_OK, effective_ids=True) for path in written):
        return own
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "vault-cube" / f"salt-{hashlib.sha256(os.fsencode(checkout)).hexdigest()[:12]}"


def configured(arguments: Sequence[str], own_scratch: bool = True) -> bool:
    """Return whether salt-call finds a configuration: named by its arguments, or in the current folder, a checkout.

    own_scratch: whether the checkout's own configuration can be used, which writes to `.salt`.
    """
    named = any(
        argument in OPTIONS or argument.startswith(tuple(f"{option}=" for option in OPTIONS)) for argument in arguments
    )
    here = own_scratch and Path("Saltfile").is_file() and Path("conf/minion").is_file()
    return named or "SALT_SALTFILE" in os.environ or here


def write(checkout: Path, scratch: Path) -> Path:
    """Write the configuration of a checkout with absolute paths. Returns the path of its Saltfile. Raises OSError.

    scratch: the folder for the configuration and for all that Salt writes.
    """
    folder = scratch / "conf"
    folder.mkdir(parents=True, exist_ok=True)
    options = yaml.safe_load((checkout / "conf/minion").read_text())
    settings = yaml.safe_load((checkout / "Saltfile").read_text())
    settings["salt-call"]["config_dir"] = str(folder)
    for name, content in (("minion", _absolute(options, checkout, scratch)), ("Saltfile", settings)):
        text = yaml.safe_dump(content)
        file = folder / name
        if file.exists() and file.read_text() == text:
            continue
        # another salt-call may read the file at this moment
        new = folder / f"{name}.{os.getpid()}"
        new.write_text(text)
        new.replace(file)
    return folder / "Saltfile"


def _absolute(options: dict[str, Any], checkout: Path, scratch: Path) -> dict[str, Any]:
    """Return the options of a minion with paths that do not depend on the current folder."""

    def absolute(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: absolute(below) for name, below in value.items()}
        if isinstance(value, list):
            return [absolute(below) for below in value]
        path = Path(value)
        return str(scratch / path.relative_to(SCRATCH) if path.is_relative_to(SCRATCH) else checkout / path)

    def escaped(roots: dict[str, list[str]]) -> dict[str, list[str]]:
        return {name: [glob.escape(root) for root in folders] for name, folders in roots.items()}

    paths = {
        name: absolute(value)
        for name, value in options.items()
        if name.endswith(("_dir", "_dirs", "_roots", "_file")) or name == "cachedir"
    }
    # Salt takes these for patterns
    paths |= {name: escaped(paths[name]) for name in ("file_roots", "pillar_roots")}
    # the folder of the configuration may be outside the checkout
    paths["vault_cube"] = {**options["vault_cube"], "sources": str(checkout)}
    return {**options, **paths, "include": glob.escape(str(checkout / "conf" / options["include"]))}


if __name__ == "__main__":
    main()
