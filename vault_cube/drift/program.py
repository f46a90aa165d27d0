"""The program `/usr/lib/vault-cube/drift`. It runs with the distribution's Python, outside of Salt and the checkout."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vault_cube.drift import accepted, manifest, report
from vault_cube.drift.comparison import ACCEPTED, FOLDER, Request, compare, guard
from vault_cube.drift.explain import explain
from vault_cube.drift.manifest import HOME, ManifestError

ROOT = Path("/")
ARCHIVE = f"{HOME}/checkout.tar.gz"
"""The checkout as the image has it, from which `restore` writes files back."""
OVERRIDE = "VAULT_CUBE_UNGUARDED"
APPLYING = ("state.apply", "state.highstate", "state.sls", "state.sls_id", "state.single", "state.template",
            "state.template_str", "state.top", "state.high", "state.low", "state.pkg")  # fmt: skip
"""Functions of Salt that change a box."""


def main(arguments: Sequence[str]) -> int:
    """Run a command. Returns the exit status: 0 no drift, 2 drift, 1 an error, which is printed in one line."""
    parser = argparse.ArgumentParser(prog="drift", description="compare this box with the image that it was made from")
    commands = parser.add_subparsers(dest="command", required=True)
    comparing = commands.add_parser("compare", help="compare everything, without Salt")
    comparing.add_argument("--root", type=Path, default=Path("/"), help="root of a mounted disk")
    comparing.add_argument("--manifest", type=Path, help="manifest beside the image, whose signature was verified")
    comparing.add_argument("--full", action="store_true", help="read all files")
    comparing.add_argument("--json", action="store_true")
    comparing.add_argument("--request", action="store_true", help="read states and pillar from stdin, as JSON")
    guarding = commands.add_parser("guard", help="refuse if Salt would run from changed files")
    guarding.add_argument("call", nargs=argparse.REMAINDER, help="arguments of salt-call; none: always check")
    accepting = commands.add_parser("accept", help="accept the present content of what Salt runs from")
    accepting.add_argument("name", nargs="?", help="name of a new list; default: the time")
    commands.add_parser("restore", help="write the checkout of the image back")
    explaining = commands.add_parser("explain", help="show who owns a path, and what changed")
    explaining.add_argument("path")
    explaining.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    try:
        return COMMANDS[chosen.command](chosen)
    except (ManifestError, accepted.NameRefusedError) as err:
        print(f"drift: {err}", file=sys.stderr)
    except OSError as err:
        print(f"drift: {err.filename}: {err.strerror}", file=sys.stderr)
    return 1


def _compare(chosen: argparse.Namespace) -> int:
    told: dict[str, Any] = json.load(sys.stdin) if chosen.request else {}
    live = chosen.root == Path("/") and Path("/run/systemd/system").is_dir()
    request = Request(
        chosen.root, chosen.manifest, chosen.full, live, told.get("states"), told.get("expected", {}),
        told.get("listen", ()), told.get("keys", ()), use_index=chosen.root == Path("/") and os.geteuid() == 0,
    )  # fmt: skip
    result = compare(request)
    print(json.dumps(result) if chosen.json else report.text(result))
    return 2 if result["drifted"] else 0


def applies(call: Sequence[str]) -> bool:
    """Return whether a command line of salt-call applies states; with test=True it changes nothing."""
    return any(word in APPLYING for word in call) and not any(
        word.lower() in ("test=true", "mock=true") for word in call
    )


def _guard(chosen: argparse.Namespace) -> int:
    call = chosen.call[1:] if chosen.call[:1] == ["--"] else chosen.call
    if (call and not applies(call)) or os.environ.get(OVERRIDE) == "1":
        return 0
    if os.geteuid() != 0:
        return 0  # Salt itself refuses, or runs from a configuration of the user
    differences = guard(ROOT)
    if not differences:
        return 0
    names = [f"  /{difference.path}: {difference.change()}" for difference in differences[:10]]
    more = [f"  and {len(differences) - 10} more"] if len(differences) > 10 else []
    lines = [
        f"salt-call: refused: {len(differences)} files that Salt runs from are not as in the image:", *names, *more,
        f"Restore the checkout with `/{HOME}/drift restore`, accept the files with `/{HOME}/drift accept`, "
        f"or set {OVERRIDE}=1 for one call.",
    ]  # fmt: skip
    print("\n".join(lines), file=sys.stderr)
    return 2


def _accept(chosen: argparse.Namespace) -> int:
    differences = guard(ROOT)
    if not differences:
        print("nothing to accept: everything that Salt runs from is as in the image, or accepted")
        return 0
    # the name has nanoseconds, since a rollout may accept twice in a second
    name = chosen.name or f"{time.strftime('%Y-%m-%dT%H-%M-%SZ', time.gmtime())}.{time.time_ns() % 10**9:09}"
    file = accepted.add(ROOT / FOLDER / ACCEPTED, name, accepted.lines(ROOT, differences))
    left = guard(ROOT)
    print(f"{file}: {len(differences) - len(left)} files accepted")
    for difference in left:
        print(f"  not accepted: /{difference.path}: others than root can write it")
    return 1 if left else 0


def _restore(_: argparse.Namespace) -> int:
    root = ROOT
    image = manifest.read(root / manifest.PLACE, accepted.GUARDED)
    content = image.content(ARCHIVE) if ARCHIVE in image.entries else ""
    data = root / ARCHIVE
    if not content or accepted.content_of(data) != content:
        raise ManifestError(f"{data}: missing or changed: write the files from a checkout of {image.image}")
    restored = []
    with tarfile.open(data) as archive:
        members = {member.name.removeprefix("./"): member for member in archive.getmembers() if not member.isdir()}
        for difference in guard(root):
            path = root / difference.path
            if difference.path in members:
                _write(archive, members[difference.path], path)
            elif difference.kind == "extra" and difference.path.startswith("opt/vault-cube/checkout/"):
                _remove(path)
            else:
                continue
            restored.append(difference.path)
    left = guard(root)
    print(f"{len(restored)} files restored" + "".join(f"\n  not restored: /{d.path}: {d.change()}" for d in left))
    return 1 if left else 0


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = archive.extractfile(member)
    if source is None:
        return
    _remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.restored")
    temporary.write_bytes(source.read())
    temporary.chmod(member.mode)
    os.chown(temporary, 0, 0)
    temporary.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for item in path.iterdir():
            _remove(item)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _explain(chosen: argparse.Namespace) -> int:
    result = explain(ROOT, chosen.path)
    print(json.dumps(result) if chosen.json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    return 0


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "compare": _compare, "guard": _guard, "accept": _accept, "restore": _restore, "explain": _explain,
}  # fmt: skip
