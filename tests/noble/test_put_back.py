"""Every fault of the audit of `ubuntu-24.04`, put back, is noticed: see put_back.py."""

import pytest
from put_back import FAULTS, copy, put_back, pytest_in

pytestmark = pytest.mark.slow

AUDIT = [*(f"A{n}" for n in range(1, 4)), *(f"B{n}" for n in range(1, 5)), *(f"C{n}" for n in range(1, 12))]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy in which the tests of all faults pass."""
    checkout = copy(tmp_path_factory.mktemp("faults"))
    whole = pytest_in(checkout, *{fault.test for fault in FAULTS.values()})
    assert whole.returncode == 0, whole.stdout[-3000:]
    return checkout


def test_no_fault_is_left_out():
    assert list(FAULTS) == AUDIT


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_comes_back_is_noticed_and_named(checkout, name):
    assert put_back(FAULTS[name], checkout)
