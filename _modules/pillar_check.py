"""Find the errors in the files of the pillar, for pillar/top.sls and for _pillar/vault_cube.py."""

import io
import re
import traceback
from pathlib import Path

import salt.fileclient
import salt.loader
import salt.template
import salt.utils.yaml
from salt.exceptions import SaltRenderError


def problems(pillar=None):
    """
    List the errors in the pillar's files, and those of the merged values.

    pillar
        merged values to check against the schema; default: check only whether the files can be read

    Returns one line per problem: file, line, key, what to do. Empty if there is none.

    CLI Example:

    .. code-block:: bash

        salt-call pillar_check.problems
    """
    from vault_cube import pillar_files

    target = __opts__.get("vault_cube", {}).get("target", "")
    root = Path(__opts__["pillar_roots"]["base"][0])
    files, errors = pillar_files.read_all(root, target, _render, salt.utils.yaml.safe_load, _compile)
    if errors or pillar is None:
        return errors
    if not pillar:
        return [f"{pillar_files.shown(root / 'top.sls')}: names no file of the pillar: restore this file"]
    # importing pydantic takes 0.1 s
    from vault_cube.settings import PillarError, check

    try:
        check(pillar, files, target)
    except PillarError as err:
        return str(err).splitlines()
    return []


def _renderers():
    return salt.loader.render(__opts__, __salt__, file_client=salt.fileclient.get_file_client(__opts__, True))


def _render(path, text):
    """Render the Jinja of a pillar file with Salt's renderer. Raises RenderError."""
    from vault_cube.pillar_files import RenderError

    try:
        return _renderers()["jinja"](io.StringIO(text), "base", path.stem, tmplpath=str(path), _pillar_rend=True).read()
    except SaltRenderError as err:
        # Salt wraps the error that has the line
        cause = err.error if isinstance(err.error, SaltRenderError) else err
        raise RenderError(str(cause.error).removeprefix("Jinja syntax error: "), cause.line_num) from None


def _compile(path):
    """Render a pillar file with the renderers that its first line names. Returns its values. Raises RenderError."""
    from vault_cube.pillar_files import RenderError, renderers

    available = _renderers()
    # Salt would ignore the whole file
    unknown = [name for name in renderers(path.read_text()) if name not in available]
    if unknown:
        problem = f"Salt has no renderer {unknown[0]!r}: remove this line, or name one that it has, such as #!py"
        raise RenderError(problem, 1)
    lists = (__opts__.get("renderer_blacklist"), __opts__.get("renderer_whitelist"))
    try:
        return salt.template.compile_template(
            str(path), available, __opts__.get("renderer", "jinja|yaml"), *lists, "base", path.stem, _pillar_rend=True
        )
    except (Exception, SystemExit) as err:
        # the file may do anything; Salt's own error may contain the traceback as text, which ends with the cause
        whole = "".join(traceback.format_exception(err))
        lines = re.findall(rf'File "{re.escape(str(path))}", line (\d+)', whole)
        cause = str(err).strip().splitlines()[-1:] if "Traceback" in str(err) else [type(err).__name__, str(err)]
        raise RenderError(": ".join(filter(None, cause)), int(lines[-1]) if lines else None) from None
