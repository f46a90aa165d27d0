"""Wrong requests to salt-api, each one case: none of them may execute anything, and all are answered soon.

A case: who (a person's name, or None for nobody), what is sent, and the allowed statuses. For a request that salt-api takes,
`box` is a part of the answer with which the box refuses it. `CANARY` is a file that must not appear anywhere.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

CANARY = "/tmp/canary"
TOUCH = f"touch {CANARY}"
PING = {"client": "local", "tgt": "b1", "fun": "test.ping"}
JSON = "application/json"


class Case(NamedTuple):
    name: str
    who: str | None = None
    path: str = "/"
    method: str = "POST"
    json: Any = None
    data: Any = None
    headers: Mapping[str, str] = MappingProxyType({})
    status: tuple[int, ...] = (401,)
    box: str | None = None


def low(**more):
    return [{**PING, **more}]


def run(fun, *arg, **more):
    return low(fun=fun, **({"arg": list(arg)} if arg else {}), **more)


def runner(fun, /, **kwarg):
    return [{"client": "runner", "fun": fun, "kwarg": kwarg}]


def login(**more):
    return {"username": "vera", "password": "wrong", "eauth": "pam", **more}


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
NO_ROUTE, METHOD, TYPE, LARGE, MALFORMED = (404,), (405,), (415,), (413,), (400, 401)
# salt-api answers 200 and leaves the refusal in the answer, or the box refuses
TAKEN = (200,)

NOBODY = [
    Case("no token", json=low()),
    Case("an invented token", json=low(), headers={"X-Auth-Token": "ab" * 20}),
    Case("a token that is a path", json=low(), headers={"X-Auth-Token": "../../../../etc/passwd"}),
    Case("a very long token", json=low(), headers={"X-Auth-Token": "a" * 6000}),
    Case("a session's cookie instead of a token", json=low(), headers={"Cookie": f"session_id={'ab' * 20}"}),
    Case("/run", path="/run", json=low(), status=NO_ROUTE),
    Case("/run with a token in the body", path="/run", json=low(token="ab" * 32), status=NO_ROUTE),
    Case("/run with token: true", path="/run", json=low(token=True), status=NO_ROUTE),
    Case("a webhook", path="/hook/x/y", json={"x": 1}, status=NO_ROUTE),
    Case("the events", path="/events", method="GET", status=NO_ROUTE),
    Case("the events by WebSocket", path="/ws", method="GET", headers={"Upgrade": "websocket"}, status=NO_ROUTE),
    Case("statistics", path="/stats", method="GET", status=NO_ROUTE),
    Case("keys", path="/keys", json={"mid": "x"}, status=NO_ROUTE),
    Case("all jobs", path="/jobs", method="GET", status=NO_ROUTE),
    Case("all minions", path="/minions", method="GET", status=NO_ROUTE),
    Case("a file of the web application", path="/app", method="GET", status=NO_ROUTE),
    Case("another site asks for permission", method="OPTIONS", headers={"Origin": "https://evil.example"}, status=METHOD),
    Case("the login page", path="/login", method="GET", status=METHOD),
    Case("PUT", method="PUT", json=low(), status=METHOD),
    Case("DELETE", method="DELETE", status=METHOD),
    Case("TRACE", method="TRACE", status=METHOD),
    Case("a method of WebDAV", method="PROPFIND", status=METHOD),
    Case("a wrong password", path="/login", json=login()),
    Case("no password", path="/login", json={"username": "vera", "eauth": "pam"}, status=MALFORMED),
    Case("a password that is a list", path="/login", json=login(password=["x"]), status=MALFORMED),
    Case("a password that is null", path="/login", json=login(password=None), status=MALFORMED),
    Case("root, which is in no role", path="/login", json=login(username="root")),
    Case("an unknown user", path="/login", json=login(username="mallory")),
    Case("a user name with a new line", path="/login", json=login(username="x\n2026-01-01 FAKE LOG LINE"), status=MALFORMED),
    Case("a user name with a NUL", path="/login", json=login(username="vera\0"), status=MALFORMED),
    Case("an authentication that is not set up", path="/login", json=login(eauth="auto")),
    Case("an authentication that is a path", path="/login", json=login(eauth="../../x")),
    Case("an authentication that is a file", path="/login", json=login(eauth="file", username="x", password="x")),
    Case("an authentication by shared secret", path="/login", json=login(eauth="sharedsecret", password=None), status=MALFORMED),
    Case("a login as YAML", path="/login", data="username: vera\n", headers={"Content-Type": "application/x-yaml"}, status=TYPE),
    Case("a YAML object", path="/login", data=f"!!python/object/apply:os.system ['{TOUCH}']",
         headers={"Content-Type": "application/x-yaml"}, status=TYPE),
    Case("a YAML bomb", path="/login", data=BOMB, headers={"Content-Type": "text/yaml"}, status=TYPE),
    Case("a form", path="/login", data="username=vera&password=x&eauth=pam",
         headers={"Content-Type": "application/x-www-form-urlencoded"}, status=TYPE),
    Case("a file upload", path="/login", data="--x\r\n\r\n", headers={"Content-Type": "multipart/form-data; boundary=x"}, status=TYPE),
    Case("JSON by another name", path="/login", data="{}", headers={"Content-Type": "application/jsonp"}, status=TYPE),
    Case("a login without a type", path="/login", data="{}", headers={"Content-Type": ""}, status=TYPE),
    Case("a login of 2 MB", path="/login", json=login(username="x" * 2_000_000), status=LARGE),
    Case("a login of 2 kB", path="/login", json=login(username="x" * 2_000), status=LARGE),
    Case("a login in 40 MB of chunks", path="/login", data=[b"x" * 1_000_000] * 40, headers={"Content-Type": JSON}, status=LARGE),
    Case("deep JSON", path="/login", data="[" * 500 + "]" * 500, headers={"Content-Type": JSON}, status=MALFORMED),
    Case("a path out of the server", path="/login/../../etc/passwd", method="GET", status=(400, *NO_ROUTE)),
    Case("an encoded path out of the server", path="/..%2f..%2fetc/passwd", method="GET", status=(400, *NO_ROUTE)),
    Case("a doubly encoded path", path="/%252e%252e/etc", method="GET", status=NO_ROUTE),
    Case("a path with a NUL", path="/login%00", json=login(), status=(400, *NO_ROUTE)),
    Case("two slashes and a host", path="//evil.example/run", json=low(), status=NO_ROUTE),
    Case("a login with a slash at its end", path="/login/", json=login(), status=NO_ROUTE),
    Case("a large header", json=low(), headers={"X-Long": "a" * 40_000}, status=(400, 431)),
]  # fmt: skip

VIEWER = [
    Case("no JSON", "vera", data="{{{", headers={"Content-Type": JSON}, status=MALFORMED),
    Case("a list of numbers", "vera", json=[1, 2, 3], status=MALFORMED),
    Case("a list of lists", "vera", json=[[PING]], status=MALFORMED),
    Case("a string", "vera", json="abc", status=MALFORMED),
    Case("null", "vera", data="null", headers={"Content-Type": JSON}, status=MALFORMED),
    Case("an empty object", "vera", json={}, status=MALFORMED),
    Case("NaN", "vera", data='[{"client": NaN}]', headers={"Content-Type": JSON}, status=MALFORMED),
    Case("16 KiB of brackets", "vera", data="[" * 8_000 + "]" * 8_000, headers={"Content-Type": JSON}, status=MALFORMED),
    Case("a number with 15,000 digits", "vera", data="[" + "9" * 15_000 + "]", headers={"Content-Type": JSON}, status=MALFORMED),
    Case("a body of 20 kB", "vera", json=run("gpu.health", "x" * 20_000), status=LARGE),
    Case("a body of 2 MB", "vera", json=run("gpu.health", "x" * 2_000_000), status=LARGE),
    Case("a compressed body", "vera", data=b"\x1f\x8b\x08\x00", headers={"Content-Type": JSON, "Content-Encoding": "gzip"}, status=MALFORMED),
    Case("a command", "vera", json=run("cmd.run", TOUCH)),
    Case("a command as a second function", "vera", json=low(fun=["test.ping", "cmd.run"], arg=[[], [TOUCH]]), status=(200, 400, 401), box="one function"),
    Case("a list with one function", "vera", json=low(fun=["test.ping"], arg=[[]]), status=(200, 400, 401), box="one function"),
    Case("two functions with a comma", "vera", json=low(fun="test.ping,cmd.run", arg=[[], [TOUCH]]), status=(200, 400, 401), box="not available"),
    Case("a function in a list in a list", "vera", json=low(fun=[["cmd.run"]], arg=[[TOUCH]]), status=(200, 400, 401), box="refused"),
    Case("a function with a NUL", "vera", json=low(fun="test.ping\0cmd.run"), status=(200, 400, 401), box="not available"),
    Case("a function of an operator", "vera", json=run("state.apply")),
    Case("a function that writes", "vera", json=run("file.write", CANARY, "x")),
    Case("a returner that writes a file", "vera", json=low(ret="rawfile_json", ret_kwargs={"filename": CANARY}), status=TAKEN),
    Case("a returner with a configuration", "vera", json=low(ret="rawfile_json", ret_config="x", kwarg={}), status=TAKEN),
    Case("several returners", "vera", json=low(ret="rawfile_json,local_cache,syslog_return", ret_kwargs={"filename": CANARY}), status=TAKEN),
    Case("another executor", "vera", json=low(module_executors=["direct_call"]), status=TAKEN),
    Case("the executor sudo", "vera", json=low(module_executors=["sudo", "direct_call"]), status=TAKEN),
    Case("an executor with options", "vera", json=low(module_executors=["fleet_gate"], executor_opts={"x": 1}), status=TAKEN),
    Case("no executor", "vera", json=low(module_executors=[]), status=TAKEN),
    Case("an argument that is a path", "vera", json=run("layer.check", "../../../etc"), status=TAKEN, box="refused"),
    Case("an argument that is an option", "vera", json=run("layer.check", "--config-dir=/tmp"), status=TAKEN, box="refused"),
    Case("an argument that is Jinja", "vera", json=run("grains.get", "{{ salt['cmd.run']('" + TOUCH + "') }}"), status=TAKEN, box="refused"),
    Case("an argument that is a dictionary", "vera", json=run("layer.check", {"x": 1}), status=TAKEN, box="refused"),
    Case("an argument with a new line", "vera", json=run("layer.check", "base\n"), status=TAKEN, box="refused"),
    Case("a hidden argument of the publisher", "vera", json=run("layer.check", kwarg={"layer": "base", "__pub_user": "anna"}), status=TAKEN, box="refused"),
    Case("a pillar for a check", "vera", json=run("layer.check", "base", kwarg={"pillar": {}}), status=TAKEN, box="refused"),
    Case("wheel", "vera", json=[{"client": "wheel", "fun": "key.list_all"}], status=(400, 401)),
    Case("wheel, to accept keys", "vera", json=[{"client": "wheel", "fun": "key.accept", "match": "*"}], status=(400, 401)),
    Case("salt-ssh", "vera", json=low(client="ssh"), status=(400, 401)),
    Case("an unknown client", "vera", json=low(client="__init__"), status=MALFORMED),
    Case("a batch", "vera", json=low(client="local_batch", fun="cmd.run", arg=[TOUCH]), status=(400, 401)),
    Case("a subset", "vera", json=low(client="local_subset", fun="cmd.run", arg=[TOUCH]), status=(400, 401)),
    Case("a runner of an operator", "vera", json=runner("fleet.rollout", commit="c" * 40)),
    Case("a runner that runs commands", "vera", json=runner("salt.cmd", fun="cmd.run", cmd=TOUCH)),
    Case("a runner that lists others' jobs", "vera", json=runner("jobs.list_jobs")),
    Case("an asynchronous runner", "vera", json=[{"client": "runner_async", "fun": "fleet.status"}], status=(400, 401)),
    Case("a runner with a private name", "vera", json=runner("fleet._ask", names=["b1"], fun="cmd.run", arg=[TOUCH]), status=MALFORMED),
    Case("a runner with a keyword of Salt's own", "vera", json=runner("fleet.inventory", __opts__={"x": 1}), status=(200, 400, 401)),
    Case("a runner with an unknown argument", "vera", json=runner("fleet.inventory", file=CANARY), status=(200, 400)),
    Case("somebody else's name beside the token", "vera", json=run("cmd.run", TOUCH, username="anna", eauth="pam", password="x")),
    Case("somebody else's token beside one's own", "vera", json=run("cmd.run", TOUCH, token="ab" * 32)),
    Case("a user that is root", "vera", json=run("cmd.run", TOUCH, user="root", __current_eauth_user="root")),
    Case("a target that is a dictionary", "vera", json=low(tgt={"a": 1}), status=(200, 400, 401)),
    Case("a target that calls for a node group", "vera", json=low(tgt="N@all", tgt_type="compound"), status=(200, 400, 401)),
    Case("a target by an expression without end", "vera", json=low(tgt="(a+)+$" * 50, tgt_type="pcre"), status=(200, 401)),
    Case("an unknown kind of target", "vera", json=low(tgt_type="../../x"), status=(200, 400, 401)),
    Case("a job id that is a path", "vera", json=low(jid="../../../tmp/canary"), status=(200, 400, 401)),
    Case("1,000 requests in one", "vera", json=[{"client": "x"}] * 800, status=MALFORMED),
]  # fmt: skip

OPERATOR = [
    Case("a state of the caller's own", "otto", json=run("state.apply", "/tmp/evil"), status=TAKEN, box="refused"),
    Case("a pillar of the caller's own", "otto", json=run("state.apply", kwarg={"pillar": {"base": {"users": {"mallory": {"uid": 0}}}}}), status=TAKEN, box="refused"),
    Case("another environment", "otto", json=run("state.apply", kwarg={"saltenv": "dev"}), status=TAKEN, box="refused"),
    Case("another configuration", "otto", json=run("state.apply", kwarg={"localconfig": "/tmp/evil"}), status=TAKEN, box="refused"),
    Case("a state as a second function", "otto", json=low(fun=["state.apply", "state.single"], arg=[[], ["cmd.run", TOUCH]]), status=(200, 400, 401), box="one function"),
    Case("a release past the rollout", "otto", json=run("checkout.update", "a" * 40, "b" * 64)),
    Case("any orchestration", "otto", json=runner("state.orchestrate", mods="fleet.rollout", pillar={"plan": {"steps": []}})),
    Case("a rollout of a path", "otto", json=runner("fleet.rollout", commit="../../../etc/passwd"), status=TAKEN, box="no such release"),
    Case("a rollout of a list", "otto", json=runner("fleet.rollout", commit=["a"]), status=TAKEN, box="no such release"),
    Case("a rollout in batches of none", "otto", json=runner("fleet.rollout", commit="c" * 40, batch=0), status=TAKEN, box=""),
    Case("an unknown runner", "otto", json=runner("cloud.create"), status=MALFORMED),
    Case("accepting a key", "otto", json=runner("fleet.accept", box="b1", fingerprint="x")),
]  # fmt: skip

ADMIN = [
    Case("a command", "anna", json=run("cmd.run", TOUCH)),
    Case("a command on all boxes by a compound target", "anna", json=run("cmd.run", TOUCH, tgt="*", tgt_type="compound")),
    Case("accepting a key that does not wait", "anna", json=runner("fleet.accept", box="../../etc/passwd", fingerprint="x"), status=TAKEN, box="no key with this name"),
    Case("removing a box that is a pattern", "anna", json=runner("fleet.remove", box="*"), status=TAKEN, box="no key with this name"),
    Case("synchronising modules", "anna", json=run("saltutil.sync_all")),
    Case("stopping another job by a path", "anna", json=run("saltutil.kill_job", "../../1"), status=TAKEN, box="refused"),
]  # fmt: skip

CASES = [*NOBODY, *VIEWER, *OPERATOR, *ADMIN]
