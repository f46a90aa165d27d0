"""Check the merged pillar against the schema, whenever Salt compiles a pillar.

On a box, add what cloud-init's seed has set: the seed belongs to this one box, so it overrides the pillar's files.
A pillar with an error stops `state.apply` before the first state, with one line per problem.
"""

import hashlib
import json
import logging
import sys
from pathlib import Path

import salt.utils.files

log = logging.getLogger(__name__)

__virtualname__ = "vault_cube"

STOPPED = ("state.", "pillar.")
"""Beginnings of the functions that salt-call does not run with a pillar that has an error; all others run."""


def ext_pillar(minion_id, pillar, **kwargs):
    """Check a pillar against the schema.

    Returns the seed's values, or `_errors` with one line per problem: file, line, key, what to do. Stops salt-call with
    these lines if it was asked for a state or for the pillar: Salt would print lines of its own before them, or exit
    with code 0. Raises SystemExit.
    """
    seed = _seed()
    # Salt compiles a pillar twice per call; the second time, it contains the result of the first
    pillar = {name: section for name, section in pillar.items() if name != "_errors"}
    if seed and isinstance(pillar.get("base"), dict):
        pillar["base"] = {**pillar["base"], **seed["base"]}
    # importing pydantic takes 0.1 s, so a pillar that has passed once is not checked again
    digest = _digest(pillar)
    verdict = Path(__opts__["cachedir"]) / "vault_cube_pillar_ok"
    try:
        # a full disk leaves an empty verdict, which an empty digest must not match
        if digest and verdict.read_text() == digest:
            return seed
    except OSError:
        pass
    problems = __salt__["pillar_check.problems"](pillar)
    if problems:
        # a minion or a master that compiles this pillar must not be stopped
        if Path(sys.argv[0]).name == "salt-call" and str(__opts__.get("fun")).startswith(STOPPED):
            sys.exit("\n".join(problems))
        # an exception would log a traceback; Salt itself stores errors of a pillar in this key
        return {"_errors": problems}
    try:
        with salt.utils.files.fopen(verdict, "w") as handle:
            handle.write(digest)
    except OSError as err:
        log.debug("cannot store the result of the pillar's check: %s", err)
    return seed


def _digest(pillar):
    """Return the SHA-256 of a pillar, its target and the schema; empty if the pillar has keys that are no strings."""
    try:
        digest = hashlib.sha256(json.dumps(pillar, sort_keys=True, default=str).encode())
    except (TypeError, ValueError):
        return ""
    import vault_cube

    for source in sorted((Path(vault_cube.__file__).parent / "settings").glob("*.py")):
        digest.update(source.read_bytes())
    # a digest of the values alone would accept a copy of another target's file
    digest.update(str(__opts__.get("vault_cube", {}).get("target", "")).encode())
    return digest.hexdigest()


def _seed():
    """Return what the seed has set, as part of a pillar; {} without a seed, and on other machines than a box.

    cc_vault_cube_apply (salt/base/files/cloud/) writes the file.
    """
    file = __opts__.get("vault_cube", {}).get("seed")
    try:
        record = json.loads(Path(file).read_text()) if file else {}
    except (OSError, ValueError):
        return {}
    values = {key: record[key] for key in ("hostname", "timezone") if key in record} if isinstance(record, dict) else {}
    return {"base": values} if values else {}
