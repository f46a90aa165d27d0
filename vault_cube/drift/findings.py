"""Give each difference one class.

The states' own verdicts come first: Salt reports under test=True which of them differ. Then come the updates of
packages, the paths that are expected to differ, and files that can be derived again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from vault_cube.drift import derived, people
from vault_cube.drift.accepted import GUARDED, Accepted, only_root_writes
from vault_cube.drift.classes import EXPECTED, REPAIRED, UNKNOWN, UNMANAGED, Finding, StateResult, collapsed
from vault_cube.drift.index import State as FileState
from vault_cube.drift.manifest import TABLES, Manifest, Patterns
from vault_cube.drift.packages import Update
from vault_cube.drift.running import Trait
from vault_cube.drift.scan import Difference

ACCOUNTS = ("user.", "group.", "account.")
"""Beginnings of the functions of states about accounts."""
ENABLED = re.compile(r"etc/systemd/system/(?:[^/]+\.(?:wants|requires)/)?([^/]+\.[a-z]+)")
SYSV = re.compile(r"etc/rc[0-9S]\.d/[SK]\d\d([^/]+)")
"""Links for sysvinit, which `systemctl enable` and `disable` also change."""
KEYS = re.compile(r"(root|home/[^/]+)/\.ssh/authorized_keys2?")
DPKG_TABLES = re.compile(
    r"var/lib/dpkg/(status|available|lock|triggers|updates|diversions-old|statoverride-old)([-/].*)?"
)


@dataclass
class Classifier:
    """Everything that decides on the class of a difference."""

    root: Path
    manifest: Manifest
    accepted: Accepted
    patterns: Patterns
    """Paths that may differ: the image's, and those that the owner's pillar adds."""
    states: Sequence[StateResult] | None = None
    """Results of all states; None: Salt was not asked."""
    updates: Sequence[Update] = ()
    known: Mapping[str, FileState] = field(default_factory=dict)
    genuine: bool = True
    """Whether the states on the box are the image's; set by `files`."""
    foreign_names: set[str] = field(default_factory=set)
    """Changed paths that Salt runs from; set by `files`."""
    byte_code: dict[str, FileState] = field(default_factory=dict)
    """Byte code that is that of its source; set by `files`."""

    @cached_property
    def _by_name(self) -> dict[str, StateResult]:
        """Name of each state → its result; one that differs counts more than one that holds."""
        results: dict[str, StateResult] = {}
        for result in self.states or ():
            if result["name"] not in results or result["differs"]:
                results[result["name"]] = result
        return results

    @cached_property
    def _folders(self) -> list[StateResult]:
        """States that own everything below a folder."""
        return [result for result in self.states or () if result["function"].startswith(("uv.", "file.recurse"))]

    @cached_property
    def _parents(self) -> dict[str, StateResult]:
        """Each folder above what a state writes → the state."""
        writers = [result for result in self.states or () if not result["function"].endswith(".absent")]
        return {str(parent): result for result in writers for parent in PurePosixPath(result["name"]).parents}

    @cached_property
    def _packaged(self) -> dict[str, Update]:
        """Each file of an updated package, in its old or new version → the update."""
        owner: dict[str, Update] = {}
        for update in self.updates:
            name = update.name.partition(":")[0]
            for path in (*self.manifest.files_of_packages.get(name, ()), *update.good, *update.others):
                owner[path] = update
        return owner

    @cached_property
    def _image_patterns(self) -> Patterns:
        return Patterns(self.manifest.header["expected"])

    @cached_property
    def _seed(self) -> str:
        return people.seed_text(self.root)

    def _state(self, difference: Difference) -> StateResult | None:
        """Return the state that writes a path; the links that enable or mask a unit are those of its state."""
        path = difference.path
        if exact := self._by_name.get(f"/{path}"):
            return exact
        is_link = difference.type == "l" or self._was_link(path)
        sysv, unit = SYSV.fullmatch(path), ENABLED.fullmatch(path)
        name = f"{sysv.group(1)}.service" if sysv else unit.group(1) if unit else ""
        result = self._by_name.get(name) if is_link else None
        if result and result["function"].startswith("unit."):
            return result
        return next((result for result in self._folders if f"/{path}".startswith(f"{result['name']}/")), None)

    def _was_link(self, path: str) -> bool:
        entry = self.manifest.entries.get(path)
        return entry is not None and entry.line.type == "l"

    def state_findings(self) -> list[Finding]:
        """Return a finding for each state that would change something, or failed.

        What Salt runs from is restored before states are applied, so it counts as not managed, see `files`.
        """
        why = "" if self.genuine else ", as the changed checkout has it"
        return [
            Finding(
                REPAIRED if self.genuine and not result["failed"] else UNKNOWN,
                result["name"],
                result["would"],
                f"{result['state']}{why}",
            )
            for result in self.states or ()
            if (result["differs"] or result["failed"]) and result["name"] not in self.foreign_names
        ]

    def files(self, differences: Iterable[Difference]) -> list[Finding]:
        """Classify the differences of files. Those that a finding of a state or a package covers are left out."""
        differences = list(differences)
        foreign = self.foreign(differences)
        self.genuine = not foreign
        paths = {difference.path for difference in foreign}
        self.foreign_names = {f"/{path}" for path in paths}
        findings = {}
        for difference in differences:
            finding = self._guarded(difference) if difference.path in paths else self._file(difference)
            if finding:
                findings[difference.path] = finding
        return collapsed(differences, findings)

    def foreign(self, differences: Sequence[Difference]) -> list[Difference]:
        """Return the differences of what Salt runs from that nobody accepted."""
        guarded = tuple(f"{top}/" for top in GUARDED)
        byte_code = [difference.path for difference in differences if derived.byte_code_source(difference.path)]
        self.byte_code = derived.same_code(self.root, self._trusted_sources(byte_code, differences), self.known)
        return [
            difference
            for difference in differences
            if f"{difference.path}/".startswith(guarded)
            and not self.accepted.reason(self.root, difference)
            and not self._harmless(difference)
        ]

    def _trusted_sources(self, paths: Iterable[str], differences: Iterable[Difference]) -> list[str]:
        """Return the .pyc files whose source is the image's, an update's, or accepted."""
        changed = {
            d.path for d in differences
            if d.path not in self._packaged and not self.accepted.reason(self.root, d)
        }  # fmt: skip
        return [path for path in paths if derived.byte_code_source(path) not in changed]

    def _harmless(self, difference: Difference) -> bool:
        """Whether a difference is byte code of an unchanged source, or was expected when the image was made."""
        name = difference.path.rpartition("/")[2]
        if difference.path in self.byte_code or (name == "__pycache__" and difference.type == "d"):
            return True
        return bool(_reason(self._image_patterns, difference))

    def _guarded(self, difference: Difference) -> Finding:
        return Finding(
            UNMANAGED, f"/{difference.path}", difference.change(), "Salt runs from it, so states are not applied",
            "/usr/lib/vault-cube/drift restore, or accept",
        )  # fmt: skip

    def _file(self, difference: Difference) -> Finding | None:
        path, change = difference.path, difference.change()
        if difference.only_content and (path in TABLES or KEYS.fullmatch(path)):
            return None  # compared by line
        if difference.kind == "extra" and difference.type == "f" and KEYS.fullmatch(path):
            return None
        update = self._packaged.get(path)
        if update and self._covered(update, difference):
            return None
        judges = (
            self._by_reading, self._by_acceptance, self._by_state, self._by_derivation, self._by_update,
            self._by_pattern,
        )  # fmt: skip
        for judge in judges:
            if result := judge(difference):
                kind, why = result
                return Finding(kind, f"/{path}", change, why) if kind else None
        package = self.manifest.entries[path].package if path in self.manifest.entries else ""
        return Finding(UNMANAGED, f"/{path}", change, f"package {package}" if package else "")

    @staticmethod
    def _by_reading(difference: Difference) -> tuple[str, str] | None:
        return (UNKNOWN, "") if difference.kind == "unreadable" else None

    def _by_acceptance(self, difference: Difference) -> tuple[str, str] | None:
        reason = self.accepted.reason(self.root, difference)
        return (EXPECTED, reason) if reason else None

    @staticmethod
    def _covered(update: Update, difference: Difference) -> bool:
        """Whether the finding of a package covers a file's difference; a new set-user-id bit is never covered."""
        if difference.path in update.wrong:
            return update.verdict != "verified"
        if difference.kind == "extra":
            return not int(difference.fields["mode"][1], 8) & 0o6000
        return difference.kind == "missing" or difference.fields.keys() <= {"size", "content", "type"}

    def _by_state(self, difference: Difference) -> tuple[str, str] | None:
        """Classify a path that a state writes; a class of "" means that the state's own finding covers it."""
        if self.states is None:
            owner = self.manifest.header["states"].get(f"/{difference.path}")
            return (REPAIRED, f"{owner} (Salt was not asked)") if owner else None
        if result := self._state(difference):
            return self._beside_state(difference, result)
        writer = self._parents.get(f"/{difference.path}") if difference.kind == "extra" else None
        if writer and self.genuine and difference.type == "d" and only_root_writes(self.root / difference.path):
            return (EXPECTED, f"{writer['state']} writes in it")
        return None

    def _beside_state(self, difference: Difference, result: StateResult) -> tuple[str, str]:
        """Classify a path by the result of the state that writes it."""
        same_content = difference.kind == "changed" and not _fields(difference) & {"size", "content"}
        if _keeps_content(result) and not same_content and not result["differs"] and not result["failed"]:
            return (UNMANAGED, f"{result['state']} does not look at its content")
        inside = f"/{difference.path}" != result["name"] and not result["function"].startswith("unit.")
        fields = _fields(difference)
        if inside and fields and "size" not in fields:
            return (UNMANAGED, f"{result['state']} does not look at it")
        if not self.genuine:
            return (UNMANAGED, f"{result['state']} writes it, but the box's states are not the image's")
        if result["differs"] or result["failed"]:
            return ("", "")
        if inside or fields & {"owner", "xattrs", "type"} or fields == {"mode"}:
            return (UNMANAGED, f"{result['state']} does not look at it")
        return (EXPECTED, f"{result['state']} writes it with this box's pillar")

    def _by_derivation(self, difference: Difference) -> tuple[str, str] | None:
        path = difference.path
        if path in self.byte_code:
            return (EXPECTED, "byte code of an unchanged source")
        if path.endswith("/__pycache__") and difference.kind == "extra":
            return (EXPECTED, "folder for byte code")
        if path == derived.CACHE and difference.only_content:
            same = derived.linker_cache(self.root)
            if same is not False:
                return (EXPECTED, "as ldconfig makes it") if same else (UNKNOWN, "ldconfig cannot make it here")
        return None

    def _by_update(self, difference: Difference) -> tuple[str, str] | None:
        """Classify what an update changes beside the files of its package."""
        path = difference.path
        if DPKG_TABLES.fullmatch(path) and path != "var/lib/dpkg/statoverride":
            return (EXPECTED, "dpkg's database, compared by package")
        if path.startswith("var/lib/dpkg/info/"):
            name = path.rpartition("/")[2].rpartition(".")[0].partition(":")[0]
            if any(update.name.partition(":")[0] == name for update in self.updates):
                return ("", "")
        if path.startswith("boot/initrd.img-") and difference.only_content and self.updates:
            return (UNKNOWN, "made again after an update; the box boots the copy in its boot file")
        return None

    def _by_pattern(self, difference: Difference) -> tuple[str, str] | None:
        reason = _reason(self.patterns, difference)
        if not reason and re.search(rf"(?<![\w/.-])/{re.escape(difference.path)}(?![\w/.-])", self._seed):
            reason = "the seed names it"
        # a path that is named alone may be written or added; its mode and owner stay those of the image
        if not reason or (difference.kind == "changed" and not difference.fields.keys() <= {"size", "content", "type"}):
            return None
        return (EXPECTED, reason)

    def packages(self) -> list[Finding]:
        """Classify the packages that differ from the image's."""
        findings = []
        for update in self.updates:
            what, name = f"package {update.name}", update.name.partition(":")[0]
            missing = next((s for s in self.states or () if s["function"].startswith("packages.") and s["differs"]
                            and re.search(rf"(?<![\w.+-]){re.escape(name)}(?![\w.+-])", s["would"])), None)  # fmt: skip
            if missing:
                continue  # the state's finding covers it
            kind = {"verified": EXPECTED, "unknown": UNKNOWN}.get(update.verdict, UNMANAGED)
            why = update.reason or "removed, and the pillar does not name it"
            findings.append(Finding(kind, what, update.change(), why))
            if update.verdict == "verified":
                findings += [Finding(UNMANAGED, f"/{path}", "content", what) for path in update.wrong]
        return findings

    def accounts(self, changes: Iterable[people.Change]) -> list[Finding]:
        """Classify the differences of accounts and keys."""
        findings = []
        for change in changes:
            if self._covered_by_user(change):
                continue
            members = people.members_added(change.change)
            declared = [name for name in (members or [change.name]) if self._declared(name)]
            if change.added and not change.dangerous and declared == (members or [change.name]):
                findings.append(Finding(EXPECTED, change.what, change.change, "the pillar or the seed names it"))
            else:
                findings.append(Finding(UNMANAGED, change.what, change.change))
        return findings

    def _covered_by_user(self, change: people.Change) -> bool:
        """Whether the finding of a user or group state covers a change: it lists the attributes that it would set."""
        if change.what.startswith("/"):
            return False  # a key
        field = change.change.split()[0]
        words = {"members": "groups", "password": "passw"}.get(field, field)
        names = [change.name, *re.findall(r"[+-](\S+)", change.change if field == "members" else "")]
        results = [self._by_name[name] for name in names if name in self._by_name]
        return any(
            result["function"].startswith(ACCOUNTS)
            and (result["differs"] or result["failed"])
            and (words in result["would"] or field in ("removed", "added:"))
            for result in results
        )

    def _declared(self, name: str) -> bool:
        result = self._by_name.get(name)
        managed = result is not None and result["function"].startswith(ACCOUNTS) and self.genuine
        return managed or re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", self._seed) is not None

    def running(self, traits: Iterable[Trait]) -> list[Finding]:
        """Classify the differences of the running system."""
        findings = []
        for trait in traits:
            unit = self._by_name.get(trait.what.removeprefix("unit "))
            if unit and unit["differs"]:
                continue
            findings.append(Finding(UNMANAGED if trait.certain else UNKNOWN, trait.what, trait.change, "", trait.todo))
        return findings


def _fields(difference: Difference) -> set[str]:
    """Return what of a path differs; nothing for one that is missing or extra."""
    return set(difference.fields) if difference.kind == "changed" else set()


def _keeps_content(result: StateResult) -> bool:
    """Whether a state leaves a file's content alone, but for a line: file.replace, file.managed without `replace`."""
    # what Salt's file.managed says under test=True
    kept = result["would"].endswith(("not updated", "not set for creation"))
    return result["function"] == "file.replace" or (result["function"] == "file.managed" and kept)


def _reason(patterns: Patterns, difference: Difference) -> str:
    added = difference.kind == "extra" and difference.type == "d"
    return patterns.reason_to_add(difference.path) if added else patterns.reason(difference.path)
