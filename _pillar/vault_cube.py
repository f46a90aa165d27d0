"""Check the pillar files, and the merged pillar against the schema, whenever Salt compiles a pillar.

On a box, add what cloud-init's seed has set: the seed belongs to this one box, so it overrides the pillar's files.
A pillar with an error stops `state.apply` before the first state, with one line per problem.
"""

import hashlib
import io
import json
import logging
from pathlib import Path

import salt.fileclient
import salt.loader
import salt.utils.files
import salt.utils.yaml
from salt.exceptions import SaltRenderError

log = logging.getLogger(__name__)

__virtualname__ = "vault_cube"


def ext_pillar(minion_id, pillar, **kwargs):
    """Check a pillar against the schema.

    Returns the seed's values, or `_errors` with one line per problem: file, line, key, what to do. Raises
    SaltRenderError if a pillar file cannot be read.
    """
    seed = _seed()
    from vault_cube import pillar_files

    target = __opts__.get("vault_cube", {}).get("target", "")
    root = Path(__opts__["pillar_roots"]["base"][0])
    files, problems = pillar_files.read_all(root, target, _render, salt.utils.yaml.safe_load)
    if problems:
        # Salt itself reports errors for such a file, and then shows ours only if they are raised
        raise SaltRenderError("\n".join(problems))
    # Salt compiles a pillar twice per call; the second time, it contains the result of the first
    pillar = {name: section for name, section in pillar.items() if name != "_errors"}
    if seed and isinstance(pillar.get("base"), dict):
        pillar["base"] = {**pillar["base"], **seed["base"]}
    # importing pydantic takes 0.1 s, so a pillar that has passed once is not checked again
    digest = hashlib.sha256(json.dumps(pillar, sort_keys=True, default=str).encode())
    import vault_cube

    for source in sorted((Path(vault_cube.__file__).parent / "settings").glob("*.py")):
        digest.update(source.read_bytes())
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
        check(pillar, files, target)
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


def _render(path, text):
    """Render the Jinja of a pillar file with Salt's renderer. Raises JinjaError."""
    from vault_cube.pillar_files import JinjaError

    renderers = salt.loader.render(__opts__, __salt__, file_client=salt.fileclient.get_file_client(__opts__, True))
    try:
        return renderers["jinja"](io.StringIO(text), "base", path.stem, tmplpath=str(path), _pillar_rend=True).read()
    except SaltRenderError as err:
        # Salt wraps the error that has the line
        cause = err.error if isinstance(err.error, SaltRenderError) else err
        raise JinjaError(str(cause.error).removeprefix("Jinja syntax error: "), cause.line_num) from None
