"""How often a failed login counts for fail2ban, by what the box's sshd logs of it, in the image's tree."""

import os
import re

import pytest
import test_layers_in_tree as in_tree

pytestmark = [pytest.mark.image, pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay: needs root")]
# the fixtures of that file
space, trees, inside = in_tree.space, in_tree.trees, in_tree.inside

LOGINS = 3
# how each login fails → its ssh options, and how often it counts; an account that may not log in has two lines
FAILURES = {
    "no key": ("-o PubkeyAuthentication=no vaultadmin@127.0.0.1", 1),
    "a wrong key": ("-i /tmp/a vaultadmin@127.0.0.1", 1),
    "two wrong keys": ("-i /tmp/a -i /tmp/b vaultadmin@127.0.0.1", 1),
    "an account that may not log in": ("-i /tmp/a daemon@127.0.0.1", 2),
}
FAILED = f"""\
ip link set lo up
mkdir -p /run/sshd
ssh-keygen -A >/dev/null
for key in a b; do ssh-keygen -q -t ed25519 -N '' -f /tmp/$key; done
/usr/sbin/sshd -E /tmp/log -o PidFile=/tmp/pid
for n in $(seq 60); do ss -Hltn 'sport = :22' | grep -q . && break; sleep 0.2; done
for n in $(seq {LOGINS}); do
  ssh -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o IdentitiesOnly=yes \\
    $LOGIN true 2>&1 && exit 1
  sleep 0.3
done
kill $(cat /tmp/pid)
sed 's/^/Nov 30 10:00:00 box sshd[77]: /' /tmp/log >/tmp/journal
cat /tmp/journal
mode=$(sed -n 's/^mode = //p' /etc/fail2ban/jail.d/00-vault-cube.local)
fail2ban-regex /tmp/journal "/etc/fail2ban/filter.d/sshd.conf[mode=$mode]" | grep ' matched'
"""


@pytest.mark.parametrize(("options", "counts"), FAILURES.values(), ids=FAILURES)
def test_a_failed_login_is_counted(inside, options, counts):
    _, output = inside(["env", f"LOGIN={options}", "sh", "-uc", FAILED])
    assert f" {LOGINS * counts} matched," in output, output


def test_the_log_names_the_key_that_was_refused(inside):
    _, output = inside(["env", f"LOGIN={FAILURES['a wrong key'][0]}", "sh", "-uc", FAILED])
    assert len(re.findall(r"Failed publickey for vaultadmin .* ED25519 SHA256:", output)) == LOGINS, output
