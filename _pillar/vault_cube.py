"""Check the merged pillar against the schema whenever Salt compiles a pillar.

On a box, add what cloud-init's seed has set: the seed belongs to this one box, so it overrides the pillar's files.
A pillar that does not match the schema stops `state.apply` before the first state, with one line per problem.
"""

import hashlib
import json
import logging
from pathlib import Path

import jinja2
import salt.utils.files
import yaml
from salt.exceptions import SaltRenderError

log = logging.getLogger(__name__)

__virtualname__ = "vault_cube"


def ext_pillar(minion_id, pillar, **kwargs):
    """Check a pillar against the schema.

    Returns the seed's values, or `_errors` with one line per problem: file, key, what to do. Raises SaltRenderError if
    a pillar file cannot be read.
    """
    seed = _seed()
    broken = [line for file in _files() if (line := _unreadable(file))]
    if broken:
        # Salt itself reports errors for such a file, and then shows ours only if they are raised
        raise SaltRenderError("; ".join(broken))
    # Salt compiles a pillar twice per call; the second time, it contains the result of the first
    pillar = {name: section for name, section in pillar.items() if name != "_errors"}
    if seed and isinstance(pillar.get("base"), dict):
        pillar["base"] = {**pillar["base"], **seed["base"]}
    # importing pydantic takes 0.1 s, so a pillar that has passed once is not checked again
    digest = hashlib.sha256(json.dumps(pillar, sort_keys=True, default=str).encode())
    import vault_cube

    for source in sorted((Path(vault_cube.__file__).parent / "settings").glob("*.py")):
        digest.update(source.read_bytes())
    target = __opts__.get("vault_cube", {}).get("target")
    # a digest of the values alone would accept a copy of another target's file
    digest.update(str(target).encode())
    verdict = Path(__opts__["cachedir"]) / "vault_cube_pillar_ok"
    try:
        if verdict.read_text() == digest.hexdigest():
            return seed
    except OSError:
        pass
    from vault_cube.settings import PillarError, check

    try:
        check(pillar, _files(), target)
    except PillarError as err:
        # an exception would log a traceback; Salt itself stores errors of a pillar in this key
        return {"_errors": str(err).splitlines()}
    try:
        with salt.utils.files.fopen(verdict, "w") as handle:
            handle.write(digest.hexdigest())
    except OSError as err:
        log.debug("cannot store the result of the pillar's check: %s", err)
    return seed


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


def _unreadable(file):
    """Return in one line why Salt cannot read a pillar file; None if it can.

    Salt's own message is a traceback without the file's name.
    """
    text = file.read_text()
    name = f"pillar/{file.parent.name + '/' if file.parent.name == 'targets' else ''}{file.name}"
    try:
        jinja2.Environment(autoescape=True).parse(text)
        if "{%" not in text and "{{" not in text:
            yaml.load(text, yaml.CSafeLoader)
    except jinja2.TemplateSyntaxError as err:
        return f"{name}: line {err.lineno}: {err.message}"
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        return f"{name}: {f'line {mark.line + 1}: ' if mark else ''}{getattr(err, 'problem', err)}"
    return None


def _files():
    """List the pillar files in the order in which they are merged."""
    target = __opts__.get("vault_cube", {}).get("target", "")
    names = ["box.sls", f"targets/{target}.sls", "local.sls"]
    roots = [Path(root) for root in __opts__["pillar_roots"].get("base", [])]
    return [root / name for root in roots for name in names if (root / name).is_file()]
