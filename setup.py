"""Put the checkout's _modules, _states … into the wheel as vault_cube/loaded/modules …, where loader.py finds them."""

from pathlib import Path

from setuptools import find_packages, setup

LOADED = {
    f"vault_cube.loaded.{folder.name[1:]}": folder.name
    for folder in Path().glob("_[a-z]*/")
    if folder.name != "__pycache__"
}

setup(packages=[*find_packages(include=["vault_cube*"]), *LOADED], package_dir=LOADED)
