"""From outside: ports of containers are closed unless the pillar opens them, and no account lets a password in."""

import os

import pytest
from lasting import apply, root

from vault_cube.image.guest.cases import TAG, Trial, address, import_image, reach_inside
from vault_cube.image.guest.qemu import GUEST

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")]

LOCAL = "/opt/vault-cube/checkout/pillar/local.sls"
SERVE = f"docker run -d --name %s -v /usr:/usr:ro -p 0.0.0.0:%s:%s {TAG} /usr/bin/python3 -m http.server %s >/dev/null"


@pytest.fixture(scope="module")
def trial(disk, expected):
    return Trial(disk.start(), expected)


def test_ports_of_containers_are_closed_unless_the_pillar_opens_them(trial):
    import_image(trial.box)
    for name, port, inner in (("web", 8081, 8000), ("other", 8082, 9000)):
        trial.box.ssh(SERVE % (name, port, inner, inner), timeout_s=300)
        reach_inside(trial, "127.0.0.1", port)
    assert trial.open_ports(GUEST, "8081", "8082") == []
    root(trial.box, f"echo 'base: {{firewall: {{container_tcp: [8000]}}}}' > {LOCAL}")
    failed, changed = apply(trial.box, "base")
    assert failed == {}
    assert "ports that are open, IPv4" in changed
    assert trial.open_ports(GUEST, "8081", "8082") == [8081]
    assert "8000/tcp" in root(trial.box, "ufw status | grep 'ALLOW FWD'")
    root(trial.box, f"rm {LOCAL}")
    assert apply(trial.box, "base")[0] == {}
    assert trial.open_ports(GUEST, "8081", "8082") == []


def test_no_account_lets_a_password_in(trial):
    names = root(trial.box, "cut -d: -f1 /etc/passwd").split()
    methods = root(
        trial.box,
        "for name in $(cut -d: -f1 /etc/passwd) nobody-of-this-name; do\n"
        "  sshd -T -C user=$name,host=x,addr=10.0.2.100 |\n"
        "    grep -cEx '(password|kbdinteractive|hostbased)authentication no|permitemptypasswords no'\n"
        "done | sort | uniq -c",
    )
    assert methods.split() == [str(len(names) + 1), "4"]
    # sshd tells its methods to anybody; one try from each address, because fail2ban counts them
    asked = ("PreferredAuthentications=password,keyboard-interactive", "PubkeyAuthentication=no")
    for number, name in enumerate(["root", trial.expected.user, "nobody", "sshd", "nobody-of-this-name"], 6):
        done = trial.login(address(number), name, *(word for option in asked for word in ("-o", option)))
        assert done.returncode
        assert "Permission denied (publickey)." in done.stderr, (name, done.stderr)
