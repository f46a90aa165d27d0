"""Check the merged pillar against the schema wherever a pillar is made; it adds no value to it.

A pillar that the schema refuses stops `state.apply` before the first state, with one line per problem.
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
    """Refuse a pillar that the schema refuses.

    Returns an empty dict, or `_errors`, one line per problem: file, key, what to do.
    """
    broken = [line for file in _files() if (line := _unreadable(file))]
    if broken:
        # Salt has errors of its own then, and keeps of ours what is raised
        raise SaltRenderError("; ".join(broken))
    # Salt compiles a pillar twice in one call, the second time with what the first returned
    pillar = {name: section for name, section in pillar.items() if name != "_errors"}
    # importing pydantic costs 0.1 s: a pillar that was found good is not checked again
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
            return {}
    except OSError:
        pass
    from vault_cube.settings import PillarError, check

    try:
        check(pillar, _files(), target)
    except PillarError as err:
        # an exception would log a traceback; this key is where Salt itself keeps a pillar's errors
        return {"_errors": str(err).splitlines()}
    try:
        with salt.utils.files.fopen(verdict, "w") as handle:
            handle.write(digest.hexdigest())
    except OSError as err:
        log.debug("the pillar's verdict is not kept: %s", err)
    return {}


def _unreadable(file):
    """Why Salt cannot read a pillar file, in one line; Salt's own word on it is a traceback that names no file."""
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
    """The pillar files in the order in which they are merged."""
    target = __opts__.get("vault_cube", {}).get("target", "")
    names = ["box.sls", f"targets/{target}.sls", "local.sls"]
    roots = [Path(root) for root in __opts__["pillar_roots"].get("base", [])]
    return [root / name for root in roots for name in names if (root / name).is_file()]
