"""An index of an archive is verified by gpgv, or by sqv where apt has only that, as on Debian 13."""

import shutil
from pathlib import Path

import box
import pytest

from vault_cube.drift import packages

RELEASE = "var/lib/apt/lists/archive.example.org_debian_dists_stable-security_InRelease"
# what sqv 1.3 does with these options: the text into a file that must not exist yet, the fingerprint on stdout
STAND_IN = """\
#!/bin/sh
set -- "$@" ""
while [ -n "$1" ]; do
  case $1 in
  --keyring) keyrings="$keyrings --keyring $2"; shift ;;
  --output=*) out=${1#--output=} ;;
  --cleartext) ;;
  -*) exit 2 ;;
  *) file=$1 ;;
  esac
  shift
done
[ ! -e "$out" ] || exit 1
echo 04B54C3CDCA79751B16BC6B5225629DF75B188BD
exec GPGV $keyrings --output "$out" "$file"
"""


@pytest.fixture(params=["gpgv", "sqv"])
def tree(request, monkeypatch, tmp_path):
    """The tree of an image on a machine that has this program only."""
    gpgv, sqv = packages.GPGV, packages.SQV
    if request.param == "gpgv":
        if not gpgv.exists():
            pytest.skip("gpgv is not installed")
    else:
        monkeypatch.setattr(packages, "GPGV", Path("/nonexistent"))
        if not sqv.exists():
            stand_in = tmp_path / "sqv"
            stand_in.write_text(STAND_IN.replace("GPGV", shutil.which("gpgv")))
            stand_in.chmod(0o755)
            monkeypatch.setattr(packages, "SQV", stand_in)
    box.make(tmp_path / "tree")
    return tmp_path / "tree"


def test_a_signed_index_is_read(tree):
    text = packages._signed(tree, tree / RELEASE)
    assert "SHA256:" in text
    assert "BEGIN PGP" not in text


def test_a_changed_index_is_not_read(tree):
    file = tree / RELEASE
    file.write_text(file.read_text().replace("SHA256:", "SHA256 :"))
    assert packages._signed(tree, file) == ""


def test_an_index_of_another_key_is_not_read(tree):
    (tree / "usr/share/keyrings/archive.gpg").unlink()
    assert packages._signed(tree, tree / RELEASE) == ""


def test_without_both_programs_nothing_is_read(tree, monkeypatch):
    monkeypatch.setattr(packages, "GPGV", Path("/nonexistent"))
    monkeypatch.setattr(packages, "SQV", Path("/nonexistent"))
    assert packages._signed(tree, tree / RELEASE) == ""
