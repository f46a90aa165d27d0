"""account.group and account.user: a new account gets its id, and an existing one keeps its own."""

import importlib.util

import pytest
from copied import TOP

NEW = "vault-cube-no-such-name"


@pytest.fixture
def account():
    """The state module; account.called lists the calls of Salt's own states."""
    spec = importlib.util.spec_from_file_location("state_account", TOP / "_states/account.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.called = []

    def state(function):
        def call(name, **options):
            module.called.append((function, name, options))
            return {"name": name, "result": None, "changes": {name: "would be made"}, "comment": ""}

        return call

    module.__states__ = {name: state(name) for name in ("group.present", "user.present")}
    return module


def test_a_new_group_gets_its_id(account):
    assert account.group(NEW, 994)["changes"] == {NEW: "would be made"}
    assert account.called == [("group.present", NEW, {"gid": 994, "system": True})]


@pytest.mark.parametrize("gid", [0, 994])
def test_an_existing_group_keeps_its_id(account, gid):
    ret = account.group("root", gid)
    assert (ret["result"], ret["changes"], ret["comment"]) == (True, {}, "group root has the id 0")
    assert account.called == []


@pytest.mark.parametrize(("name", "uid"), [(NEW, 994), ("root", 0)])
def test_a_user_that_is_new_or_has_its_id_is_compared_as_a_whole(account, name, uid):
    account.user(name, uid, "daemon", "/nonexistent")
    options = {"uid": uid, "gid": "daemon", "home": "/nonexistent", "shell": "/usr/sbin/nologin"}
    assert account.called == [("user.present", name, {**options, "createhome": False, "system": True})]


def test_a_user_with_another_id_is_left_as_it_is(account):
    ret = account.user("root", 994, "daemon", "/nonexistent")
    assert (ret["result"], ret["changes"]) == (True, {})
    assert ret["comment"] == "user root has the id 0 and is left as it is"
    assert account.called == []
