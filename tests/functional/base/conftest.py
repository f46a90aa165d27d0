"""Salt's own loader over the checkout, under the grains of a target."""

from pathlib import Path

import pytest
import salt.config
import yaml
from saltfactories.utils.functional import Loaders

TOP = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def salt_of(tmp_path_factory):
    """salt_of(target) is Salt as a box of that target has it: .states, .modules, .pillar."""
    made = {}

    def load(target):
        if target not in made:
            made[target] = Loaders(options(target, tmp_path_factory.mktemp(f"salt-{target}")))
        return made[target]

    return load


def options(target, folder):
    """A minion's options: the checkout's, with the target's grains and with folders of the test's own."""
    chosen = yaml.safe_load((TOP / "pillar/targets" / f"{target}.sls").read_text())["target"]
    own = {name: str(folder / name) for name in ("root_dir", "cachedir", "pki_dir", "sock_dir", "extension_modules")}
    own |= {"include": str(TOP / "conf/common.conf"), "id": "test", "log_file": str(folder / "log")}
    own |= {"vault_cube": {"target": target, "checkout": str(TOP)}}
    own |= {"file_roots": {"base": [str(TOP / "salt")]}, "pillar_roots": {"base": [str(TOP / "pillar")]}}
    own |= {f"{kind}_dirs": [str(TOP / f"_{name}")] for kind, name in
            (("module", "modules"), ("states", "states"), ("grains", "grains"), ("pillar", "pillar"))}  # fmt: skip
    own["grains"] = {"os": chosen["os"], "os_family": "Debian", "osrelease": chosen["release"]}
    own["grains"] |= {"oscodename": chosen["codename"], "osfinger": f"{chosen['os']}-{chosen['release']}"}
    (folder / "minion").write_text(yaml.safe_dump(own))
    return salt.config.minion_config(str(folder / "minion"))
