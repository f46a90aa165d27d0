"""What shadow(5) says of an account: a password, or that it is shut out."""

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.repair import accounts

LINES = {
    "ada:!:20786:0:99999:7:::": {},
    "ada:*:20786:0:99999:7:::": {},
    "ada:!*:20786:0::7:::": {},
    "ada:!$6$salt$hash:20786:0:99999:7:::": {},
    "ada:$6$salt$hash:20786:0:99999:7:::": {"password": "set"},
    "ada:$y$j9T$x:20786:0:99999:7:::": {"password": "set"},
    "ada:0123456789abc:20786:0:99999:7:::": {"password": "set"},
    "ada::20786:0:99999:7:::": {"password": "empty"},
    "ada:!:0:0:99999:7:::": {"password change": "demanded at the next login"},
    "ada:!:20786:0:90:7:::": {"password age": "90 days"},
    "ada:!:20786:0:99999:7:30::": {"inactivity": "30 days"},
    "ada:!:20786:0:99999:7:-1:-1:": {},
    "ada:!:20786:0:99999:7::0:": {"expiry": "1970-01-01"},
    "ada:!:20786:0:99999:7::18262:": {"expiry": "2020-01-01"},
}


@pytest.mark.parametrize("line", LINES)
def test_what_is_wrong_with_an_account(tmp_path, line):
    shadow = tmp_path / "shadow"
    shadow.write_text(f"root:*:1:::::0:\n{line}\nadam:$6$x:0:0:1:7:1:1:\n")
    assert accounts.problems("ada", shadow) == LINES[line]


def test_an_account_that_does_not_exist(tmp_path):
    (tmp_path / "shadow").write_text("adam:!:1::::::\n")
    assert accounts.problems("ada", tmp_path / "shadow") is None


@pytest.mark.parametrize("text", [None, "ada:!\n"])
def test_a_damaged_file_is_an_error_in_one_line(tmp_path, text):
    shadow = tmp_path / "shadow"
    if text:
        shadow.write_text(text)
    with pytest.raises(VaultCubeError, match=str(shadow)):
        accounts.problems("ada", shadow)
