"""The blocks marked `slow` run as they are written in a minimal Debian 12 and 13, as root and as a user.

The last step that runs is what comes before the long one: `make image` ends here at preflight, because the tree has a
cache of 10 GB; `.ci/run` runs it to its end. `make test` is not run here.
"""

import os
import re
import shutil

import pytest
import shell
from bare import SUITES, Bare
from blocks import marked
from shell import one_line

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="enters a tree: needs root"),
    pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="makes a tree: needs mmdebstrap"),
]
NAMES = {"<this repository>": "/repository", "clone … ": "clone /repository vault-cube "}
START = 'mkdir -p "/root/a path" && cd "/root/a path"'
INSIDE = 'cd "/root/a path/vault-cube"'


@pytest.fixture(scope="module", params=sorted(SUITES))
def bare(request, tmp_path_factory):
    return Bare(request.param, tmp_path_factory.mktemp("bare"))


def block_of(page):
    return marked("slow", page)[0]


def test_the_first_commands_work_in_a_new_system(bare):
    shell.run([block_of("docs/tutorial.md")], lambda script: bare.run(script, settings=START), names=NAMES)


def test_a_company_s_ca_is_asked_for_in_one_line(bare):
    if not bare.company:
        pytest.skip("this machine reaches the Python index without a CA of its own")
    output = bare.run("make lint", settings=INSIDE)
    error = output[output.index("make: cannot") :]
    assert one_line(error).endswith(
        ": set PIP_CERT to the file of the CA's certificates, as for a proxy of your company"
    )


def test_the_commands_of_contributing_work(bare):
    settings = f"export PIP_CERT={bare.company}\n" if bare.company else ""
    block = block_of("CONTRIBUTING.md")
    shell.run([block], lambda script: bare.run(script, settings=f"{settings}cd /root"), names=NAMES)


def test_make_image_stops_on_a_disk_of_10_gb_before_it_downloads(bare):
    settings = "cd /root/vault-cube\nexport VAULT_CUBE_CACHE=/var/cache/vault-cube"
    if bare.company:
        settings += f"\nexport PIP_CERT={bare.company}"
    output = bare.run("make image", settings=settings)
    assert "Traceback" not in output
    assert re.search(
        r"GB needed, .* GB of it for downloads, 10\.\d GB free: make room, or set VAULT_CUBE_CACHE", output
    )
    assert re.search(r"^make: \*\*\* ", output, re.MULTILINE)


@pytest.mark.parametrize(("command", "message"), [
    ("make image", "make image: building an image needs root: run `sudo make image TARGET=debian-12`"),
    ("make boot", "no such image: run `make image TARGET=debian-12`"),
    (".venv/bin/salt-call image.enter true", "needs root: run the command as root"),
    ("make image TARGET=debian-14", "debian-14: no such target; pillar/targets/ has debian-12, "),
])  # fmt: skip
def test_another_user_in_root_s_checkout_gets_one_line(bare, command, message):
    bare.run("id you || useradd -m you; chmod 755 /root")
    output = bare.run(command, user="you", settings="cd /root/vault-cube")
    assert message in one_line(output)


def test_another_user_can_use_root_s_checkout(bare):
    bare.run("id you || useradd -m you; chmod 755 /root")
    output = bare.run(".venv/bin/salt-call image.why base", user="you", settings="cd /root/vault-cube")
    assert "never built in this checkout" in output
    assert "All checks passed" in bare.run("make lint", user="you", settings="cd /root/vault-cube")


def test_without_a_network_and_without_git_each_goal_ends_in_one_line(bare):
    script = "rm -rf /root/zip && cp -r /root/vault-cube /root/zip && cd /root/zip && rm -rf .git .venv"
    bare.run(script)
    hidden = 'mkdir -p /tmp/none && printf "#!/bin/sh\\nexit 127\\n" >/tmp/none/git && chmod +x /tmp/none/git\n'
    output = bare.run("make lint", network=False, settings=f"{hidden}export PATH=/tmp/none:$PATH\ncd /root/zip")
    error = output[output.index("make: cannot") :]
    assert "set PIP_INDEX_URL to an index that this machine reaches, or https_proxy" in one_line(error)
    if bare.company:
        hidden += f"export PIP_CERT={bare.company}\n"
    output = bare.run("make lint", settings=f"{hidden}export PATH=/tmp/none:$PATH\ncd /root/zip")
    assert "make: ***" not in output, output


def test_a_seed_is_made_as_the_guide_says(bare):
    block = marked("slow", "docs/demo-box-setup-guide.md")[-1]
    settings = (
        "apt-get install -y dosfstools mtools >/dev/null 2>&1; mkdir -p /tmp/seed; cd /tmp/seed\n"
        "echo 'instance-id: box-1' >meta-data; echo '#cloud-config' >user-data"
    )
    shell.run([block], lambda script: bare.run(script, settings=settings))
    listed = bare.run("mdir -b -i seed.img ::; file=$(mlabel -s -i seed.img ::); echo $file", settings="cd /tmp/seed")
    assert re.search(r"meta-data\s+::/user-data\s+.*CIDATA", listed)
