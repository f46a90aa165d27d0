"""Which of the files in a `*.d` folder counts, and whether one of ours loses to a distribution's."""

from pathlib import Path

import yaml

FOLDERS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
"""folder → its rule, and the distributions' files; distribution_files.yaml explains the keys"""
NOT_NAMES = ("wins", "beside", "suffixes")


def is_drop_in_folder(folder):
    """Is this a folder whose files are read in the order of their names?"""
    return folder.endswith(".d") or folder == "/etc/systemd/network"


def known(folder):
    """The distributions' files of a folder, by name."""
    rule = FOLDERS[folder]
    return sorted({name for key, names in rule.items() if key not in NOT_NAMES for name in names})


def losing(folder, ours, theirs):
    """Those of the distribution's file names to which our file loses."""
    rule = FOLDERS[folder]
    suffixes = rule.get("suffixes", [])

    def position(name):
        # byte order, as LC_ALL=C sort
        return suffixes.index(Path(name).suffix) if suffixes else 0, name.encode()

    if rule["wins"] == "all":
        return [name for name in theirs if name == ours]
    before = rule["wins"] == "first"
    return [name for name in theirs if (position(ours) < position(name)) != before or name == ours]
