"""A box as another machine sees it: the port of ssh, its banner and algorithms, who is refused, and all other ports."""

import json
import re
import sys

import pytest

from vault_cube import process
from vault_cube.image.guest import port_scan

pytestmark = pytest.mark.validate
# a failed login counts for fail2ban, so each of these tests makes one only
NO_KEY = ("-o", "PubkeyAuthentication=no")


def test_ssh_shows_the_banner_before_login(target, box_settings):
    done = target.ssh(*NO_KEY, "-o", "PreferredAuthentications=none", "-l", target.user)
    assert box_settings.base.ssh.banner in done.stderr
    # no password, no keyboard-interactive, no host-based login
    assert "Permission denied (publickey)." in done.stderr


def test_root_is_refused_with_a_key_that_may_log_in(target):
    assert target.ssh("-i", target.key, "-o", "IdentitiesOnly=yes", "-l", target.user).returncode == 0
    done = target.ssh("-i", target.key, "-o", "IdentitiesOnly=yes", "-l", "root")
    assert done.returncode
    assert "Permission denied" in done.stderr


def test_no_account_lets_a_password_in(host):
    """By sshd's settings for each account, because each refused login would count for fail2ban."""
    wanted = {
        f"{word} no"
        for word in (
            "passwordauthentication", "kbdinteractiveauthentication", "hostbasedauthentication", "permitemptypasswords",
        )
    }  # fmt: skip
    with host.sudo():
        names = host.check_output("cut -d: -f1 /etc/passwd").split()
        asked = "; ".join(
            f"echo account {name}; sshd -T -C user={name},host=x,addr=203.0.113.1" for name in [*names, "nobody-else"]
        )
        printed = host.check_output("sh -c %s", asked)
        shadow = host.check_output("cat /etc/shadow")
    settings = printed.split("account ")[1:]
    assert len(settings) == len(names) + 1
    assert [part.split()[0] for part in settings if wanted - set(part.splitlines())] == []
    assert [line.split(":")[0] for line in shadow.splitlines() if line.split(":")[1][:1] not in ("!", "*")] == []


def test_ssh_offers_the_pillar_s_algorithms_only(target, box_settings):
    done = target.ssh("-i", target.key, "-o", "IdentitiesOnly=yes", "-l", target.user, "-vv")
    offer = done.stderr.partition("peer server KEXINIT proposal")[2]
    offered = {name: set(words.split(",")) for name, words in re.findall(r"^debug2: ([^:\n]+): (\S+)\r?$", offer, re.M)}
    ssh = box_settings.base.ssh
    # markers of the protocol, which are no algorithms
    markers = {name for name in offered["KEX algorithms"] if name.startswith(("ext-info-", "kex-strict-"))}
    assert offered["KEX algorithms"] - markers == set(ssh.key_exchange)
    assert offered["host key algorithms"] <= set(ssh.host_key_algorithms)
    assert offered["ciphers stoc"] == set(ssh.ciphers)
    assert offered["MACs stoc"] == set(ssh.macs)


def test_only_ports_that_the_pillar_or_the_owner_opened_answer(target, box_settings, host, remote):
    allowed = set(box_settings.base.firewall.allow_tcp)
    with host.sudo():
        status = host.check_output("ufw status")
    allowed |= {int(port) for port in re.findall(r"^(\d+)(?:/tcp)?\s+ALLOW", status, re.M)}
    scan = [sys.executable, port_scan.__file__, target.address, "1-65535"]
    answers = set(json.loads(process.run(scan, timeout_s=600).stdout))
    assert answers - allowed == set()
    assert box_settings.base.ssh.port in answers


def test_names_of_the_local_network_are_not_answered(host, box_settings):
    with host.sudo():
        listening = host.check_output("ss --no-header --listening --tcp --udp --numeric")
    ports = {line.split()[4].rpartition(":")[2] for line in listening.splitlines()}
    assert ports
    assert ("5355" in ports) == box_settings.base.resolver.llmnr
    assert ("5353" in ports) == box_settings.base.resolver.multicast_dns
