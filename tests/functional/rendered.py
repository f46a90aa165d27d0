"""The files and units of a target, as Salt renders its states."""

from functools import cache
from pathlib import Path

import salt.utils.templates
import yaml

TOP = Path(__file__).parents[2]
TARGETS = sorted(path.name.removesuffix(".sls") for path in (TOP / "pillar/targets").glob("*.sls"))


@cache
def low(salt):
    """The low chunks of all layers. salt: what the fixture salt_of gives for a target."""
    chunks = salt.modules.state.show_low_sls("validation")
    assert all(isinstance(chunk, dict) for chunk in chunks), chunks
    return chunks


def files(salt):
    """The files that the states write: path → low chunk."""
    return {
        chunk["name"]: chunk
        for chunk in low(salt)
        if chunk["state"] == "file" and chunk["fun"] in ("managed", "serialize")
    }


def text(salt, chunk):
    """What a file.managed chunk writes."""
    if "contents" in chunk:
        contents = chunk["contents"]
        return contents if isinstance(contents, str) else "".join(f"{line}\n" for line in contents)
    source = TOP / "salt" / chunk["source"].removeprefix("salt://")
    if chunk.get("template") != "jinja":
        return source.read_text()
    return salt.modules.file.apply_template_on_contents(
        source.read_text(), "jinja", chunk.get("context", {}), {}, "base"
    )


def units(salt, function="enabled"):
    """The names in the states unit.enabled, or unit.disabled, unit.masked."""
    return [chunk["name"] for chunk in low(salt) if (chunk["state"], chunk["fun"]) == ("unit", function)]


class Dotted(dict):
    """A mapping whose values are attributes, too, as Salt's pillar is in Jinja."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def dotted(node):
    if isinstance(node, dict):
        return Dotted({key: dotted(value) for key, value in node.items()})
    return [dotted(value) for value in node] if isinstance(node, list) else node


def states(file, pillar, opts):
    """Render a state file as Salt does, and parse the YAML. Returns the states, or the error."""
    context = {"pillar": dotted(pillar), "saltenv": "base", "sls": "test", "grains": {}, "tplpath": str(file)}
    context |= {"opts": opts, "salt": {"shared.other_rules": lambda *_: [], "checkout.folder": lambda: "/checkout"}}
    try:
        text = salt.utils.templates.render_jinja_tmpl(file.read_text(), context, str(file))
        return yaml.safe_load(text)
    except Exception as err:
        return f"{type(err).__name__}: {err}"
