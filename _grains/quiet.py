"""Suppress a Python warning of `salt-call`, report an unwritable cache in one line, and find a temporary folder.

This code is a grain, because Salt loads grains before all other modules of the checkout, in a checkout and on a box. It
sets no grain.
"""

import os
import sys
import tempfile
import warnings
from glob import glob
from pathlib import Path

# Salt 3008 imports crypt, which Python 3.11 and 3.12 deprecate and Python 3.13 no longer has. PYTHONWARNINGS cannot
# suppress the warning, because Salt adds its own filter before it when it is imported.
warnings.filterwarnings("ignore", "'crypt' is deprecated", DeprecationWarning)
# Salt's own code, such as its call of re.subn that Python 3.13 deprecates; whoever runs salt-call cannot change it
warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"salt(\.|$)")


def writable_cache():
    """Stop salt-call with one line if this user may not write Salt's cache; Salt would fail with a traceback later.

    Returns an empty dictionary. Raises SystemExit.
    """
    # a minion or a master that loads this file must not be stopped
    if Path(sys.argv[0]).name != "salt-call":
        return {}
    cache = Path(__opts__["cachedir"])
    # os.path and glob treat a folder that this user may not enter as missing; pathlib would raise an error
    nearest = next(folder for folder in (cache, *cache.parents) if os.path.exists(folder))  # noqa: PTH110
    for path in (nearest, *map(Path, glob(f"{cache}/*") + glob(f"{cache}/roots/*"))):  # noqa: PTH207
        if not os.access(path, os.W_OK, effective_ids=True):
            owner = _user(path.stat().st_uid)
            sys.exit(
                f"salt-call: cannot write {path} as user {_user(os.geteuid())}: it belongs to {owner}. "
                f"Run salt-call as {owner}; in a checkout you can remove .salt instead"
            )
    return {}


def temporary_folder():
    """Let Salt use its cache for temporary files if the disk of the usual folders is full or read-only.

    On a box, the cache is below /run. Returns an empty dictionary.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = __opts__["cachedir"]
    return {}


def _user(uid):
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
