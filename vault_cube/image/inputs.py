"""The inputs of a build: the locks and the keys that follow from them, read once at the start of each stage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vault_cube.image import store
from vault_cube.image.cache import keys
from vault_cube.image.locks import pylock, vendors
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.workspace import Workspace


@dataclass(frozen=True)
class Locks:
    """The locks of a target as they were when they were read; later edits of a file change nothing."""

    packages: AptLock
    """The packages of the root tree and of all layers."""
    tools: AptLock
    """The packages of the tools tree."""
    wheels: Mapping[str, Sequence[pylock.Wheel]]
    """The wheels of each Python environment, Salt's first."""
    vendor_keys: vendors.Keys

    @staticmethod
    def read(space: Workspace) -> Locks:
        """Read all locks of a target. Raises VaultCubeError if a lock is missing or damaged."""
        environments = ("salt", *space.settings.frameworks.environments)
        return Locks(
            packages=AptLock.read(space.locks / "apt.lock"),
            tools=AptLock.read(space.tools_lock),
            wheels={name: pylock.read(space.locks / f"python-{name}.lock") for name in environments},
            vendor_keys=vendors.read(space),
        )


@dataclass(frozen=True)
class Inputs(Locks):
    """The locks of a target, and the keys of its trees."""

    keys: Mapping[str, keys.Key]
    """The keys of the root tree and of all layers, bottom first."""
    moved: Sequence[str]
    """How the locks of this build differ from the checkout's, one line per package."""
    digests: Mapping[str, str]
    """SHA-256 of each lock by its path in the checkout."""

    @property
    def tools_key(self) -> str:
        """The key of the tools tree."""
        return self.keys[keys.ROOT].inputs["parent"]

    @staticmethod
    def read(space: Workspace) -> Inputs:
        """Read all locks of a target and compute its keys. Raises VaultCubeError if a lock is missing or damaged."""
        return Inputs.of(space, Locks.read(space))

    @staticmethod
    def of(space: Workspace, locks: Locks) -> Inputs:
        """Compute the keys of a target from its locks."""
        return Inputs(
            **vars(locks),
            keys=keys.layer_keys(space, locks.packages),
            moved=moved(space),
            digests=lock_digests(space),
        )


def lock_files(space: Workspace) -> list[Path]:
    """List all locks that a build of a target can read."""
    return [space.tools_lock, *sorted(space.locks.glob("*.lock"))]


def lock_digests(space: Workspace) -> dict[str, str]:
    """Compute the SHA-256 of each lock by its path in the checkout."""
    return {str(lock.relative_to(space.checkout)): store.sha256_of(lock) for lock in lock_files(space)}


def moved(space: Workspace) -> list[str]:
    """Return how this build differs from the checkout's locks, one line per package; empty if it does not."""
    if space.lock_root == space.checkout / "locks":
        return []
    changes: list[str] = json.loads((space.lock_root / "moved.json").read_text())
    return changes
