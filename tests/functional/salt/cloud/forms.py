"""Forms of seeds that people write, and what a box makes of each.

Sources: cloud-init's documentation (reference/examples, reference/modules), its modules' own examples, bug reports.
"""

KEY, OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA ada@lab", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5BBBB bob@lab"
ROOT = "ALL=(ALL) NOPASSWD:ALL"
REFUSED = "refused: no account has a password"

# form: cloud-config, who may log in with how many keys, parts of the messages
FORMS = {
    "top-level keys": ({"ssh_authorized_keys": [KEY]}, {"vaultadmin": 1}, []),
    "the account by its name": (
        {"users": [{"name": "vaultadmin", "ssh_authorized_keys": [KEY]}]},
        {"vaultadmin": 1},
        [],
    ),
    "default and the account": (
        {"users": ["default", {"name": "vaultadmin", "ssh_authorized_keys": [KEY]}]},
        {"vaultadmin": 1},
        [],
    ),
    "the account, twice": (
        {"ssh_authorized_keys": [KEY], "users": ["default", {"name": "vaultadmin", "ssh_authorized_keys": [OTHER]}]},
        {"vaultadmin": 2},
        [],
    ),
    "an entry named default": (
        {"users": [{"name": "default", "ssh_authorized_keys": [KEY]}]},
        {"vaultadmin": 1},
        [],
    ),
    "an entry without a name": ({"users": [{"ssh_authorized_keys": [KEY]}]}, {"vaultadmin": 1}, []),
    "user with keys": ({"user": {"ssh_authorized_keys": [KEY]}}, {"vaultadmin": 1}, []),
    "user with another name": ({"user": {"name": "ubuntu", "ssh_authorized_keys": [KEY]}}, {"ubuntu": 1}, []),
    "user as a word": ({"user": "ubuntu", "ssh_authorized_keys": [KEY]}, {"ubuntu": 1}, []),
    "another user": (
        {"users": [{"name": "ubuntu", "sudo": ROOT, "shell": "/bin/bash", "ssh_authorized_keys": [KEY]}]},
        {"ubuntu": 1},
        [],
    ),
    "default and another user": (
        {
            "users": ["default", {"name": "ada", "sudo": [ROOT], "ssh_authorized_keys": [KEY]}],
            "ssh_authorized_keys": [OTHER],
        },
        {"ada": 1, "vaultadmin": 1},
        [],
    ),
    "two other users, keys as a string": (
        {"users": [{"name": "ada", "ssh_authorized_keys": KEY}, {"name": "bob", "ssh-authorized-keys": [OTHER]}]},
        {"ada": 1, "bob": 1},
        [],
    ),
    "users as a mapping": ({"users": {"ada": {"ssh_authorized_keys": [KEY]}, "default": True}}, {"ada": 1}, []),
    "groups as a string": (
        {"groups": ["lab"], "users": [{"name": "ada", "groups": "lab, docker", "ssh_authorized_keys": [KEY]}]},
        {"ada": 1},
        [],
    ),
    "groups with members": (
        {"groups": [{"lab": ["root"]}, "cloud-users"], "ssh_authorized_keys": [KEY]},
        {"vaultadmin": 1},
        [],
    ),
    "the account with its own settings": (
        {
            "users": [
                {
                    "name": "vaultadmin",
                    "groups": ["sudo", "docker"],
                    "shell": "/bin/bash",
                    "sudo": ROOT,
                    "lock_passwd": True,
                    "ssh_authorized_keys": [KEY],
                }
            ]
        },
        {"vaultadmin": 1},
        [],
    ),
    "the account with other settings": (
        {"users": [{"name": "vaultadmin", "uid": 2000, "shell": "/bin/zsh", "ssh_authorized_keys": [KEY]}]},
        {"vaultadmin": 1},
        ["users: vaultadmin: uid 2000: ignored", "shell /bin/zsh: ignored"],
    ),
    "a group that asks for a password": (
        {"users": [{"name": "ada", "groups": "sudo", "ssh_authorized_keys": [KEY]}]},
        {"ada": 1},
        ["ada: cannot become root"],
    ),
    "a shell that is not there": (
        {"users": [{"name": "ada", "shell": "/bin/no-such-shell", "ssh_authorized_keys": [KEY]}]},
        {"ada": 1},
        ["shell /bin/no-such-shell is not installed"],
    ),
    "password and pwauth": (
        {"password": "geheim", "chpasswd": {"expire": False}, "ssh_pwauth": True, "ssh_authorized_keys": [KEY]},
        {"vaultadmin": 1},
        [f"password: {REFUSED}", "ssh_pwauth: refused"],
    ),
    "chpasswd, a list of users": (
        {
            "chpasswd": {"users": [{"name": "vaultadmin", "password": "geheim", "type": "text"}]},
            "ssh_authorized_keys": [KEY],
        },
        {"vaultadmin": 1},
        [f"chpasswd: {REFUSED}"],
    ),
    "chpasswd, lines": (
        {"chpasswd": {"list": "root:geheim\nvaultadmin:RANDOM\n"}, "ssh_authorized_keys": [KEY]},
        {"vaultadmin": 1},
        [f"chpasswd: {REFUSED}"],
    ),
    "a user's password hash": (
        {"users": [{"name": "ada", "passwd": "$6$salt$hash", "lock_passwd": False, "ssh_authorized_keys": [KEY]}]},
        {"ada": 1},
        [f"users: ada: passwd: {REFUSED}"],
    ),
    "a password in plain text for the account": (
        {
            "users": [
                {
                    "name": "vaultadmin",
                    "plain_text_passwd": "geheim",
                    "lock_passwd": False,
                    "ssh_authorized_keys": [KEY],
                }
            ]
        },
        {"vaultadmin": 1},
        [f"users: vaultadmin: plain_text_passwd: {REFUSED}"],
    ),
    "a password only": (
        {"password": "geheim", "ssh_pwauth": True},
        {},
        [f"password: {REFUSED}", "nobody can log in by ssh"],
    ),
    "root with a key": (
        {"disable_root": False, "users": [{"name": "root", "ssh_authorized_keys": [KEY]}]},
        {},
        ["users: root: not let in", "disable_root: refused", "nobody can log in by ssh"],
    ),
    "no users": (
        {"users": [], "ssh_authorized_keys": [KEY]},
        {},
        ["ssh_authorized_keys: ignored", "nobody can log in"],
    ),
    "keys that belong to nobody": (
        {"users": [{"name": "ada", "sudo": ROOT}], "ssh_authorized_keys": [KEY]},
        {},
        ["ssh_authorized_keys: ignored: they belong to the default user", "nobody can log in"],
    ),
    "a user that cloud-init refuses": (
        {
            "users": ["default", {"name": "svc", "system": True, "ssh_authorized_keys": [KEY]}],
            "ssh_authorized_keys": [KEY],
        },
        {"vaultadmin": 1},
        ["users: svc: the account was not made"],
    ),
    "keys from GitHub": (
        {"ssh_import_id": ["gh:ada"], "ssh_authorized_keys": [KEY]},
        {"vaultadmin": 1},
        ["ssh_import_id: ignored: the package"],
    ),
    "runcmd makes a user": (
        {
            "runcmd": [
                "useradd -m -s /bin/bash ada",
                "install -d -o ada /home/ada/.ssh",
                ["sh", "-c", f"echo '{KEY}' >/home/ada/.ssh/authorized_keys"],
            ],
            "users": ["default"],
        },
        {"ada": 1},
        [],
    ),
    "write_files": (
        {"write_files": [{"path": "/etc/written", "content": "early\n"}], "ssh_authorized_keys": [KEY]},
        {"vaultadmin": 1},
        [],
    ),
    "write_files into a new home": (
        {
            "users": ["default", {"name": "ada"}],
            "write_files": [
                {"path": "/home/ada/.ssh/authorized_keys", "content": KEY + "\n", "owner": "ada:ada", "defer": True}
            ],
        },
        {"ada": 1},
        [],
    ),
    "bootcmd and runcmd": (
        {
            "bootcmd": ["echo boot >/etc/written"],
            "runcmd": [["sh", "-c", "echo run >>/etc/written"]],
            "ssh_authorized_keys": [KEY],
        },
        {"vaultadmin": 1},
        [],
    ),
    "a locale": (
        {"locale": "de_DE.UTF-8", "ssh_authorized_keys": [KEY]},
        {"vaultadmin": 1},
        ["locale: ignored: set base:locale"],
    ),
    "the network in user-data": (
        {"network": {"version": 2}, "ssh_authorized_keys": [KEY]},
        {"vaultadmin": 1},
        ["network: ignored", "network-config"],
    ),
    "keys of meta-data in user-data": (
        {"local-hostname": "box-7", "instance-id": "x", "ssh_authorized_keys": [KEY]},
        {"vaultadmin": 1},
        ["local-hostname: ignored", "instance-id: ignored"],
    ),
    "a misspelt key": (
        {"ssh_authorised_keys": [KEY]},
        {},
        ["ssh_authorised_keys: ignored", "nobody can log in"],
    ),
    "a key with hyphens": ({"ssh-authorized-keys": [KEY]}, {}, ["the key is ssh_authorized_keys"]),
    "an installer's format": (
        {"autoinstall": {"version": 1}},
        {},
        ["autoinstall: ignored: this is an installer's format"],
    ),
    "settings that the box has anyway": (
        {
            "growpart": {"mode": "off"},
            "resize_rootfs": False,
            "ssh_pwauth": False,
            "disable_root": True,
            "ssh_deletekeys": True,
            "package_update": False,
            "ssh_authorized_keys": [KEY],
        },
        {"vaultadmin": 1},
        [],
    ),
    "growing": (
        {"growpart": {"mode": "auto", "devices": ["/"]}, "ssh_authorized_keys": [KEY]},
        {"vaultadmin": 1},
        ["growpart: ignored: the root partition grows by itself"],
    ),
    "a module that the box does not run": (
        {"snap": {"commands": ["snap install x"]}, "ssh_authorized_keys": [KEY]},
        {"vaultadmin": 1},
        ["snap: ignored"],
    ),
}

YAML = "#cloud-config\nssh_authorized_keys: ['" + KEY + "']\n"
# form: bytes of user-data, who may log in, parts of the messages
TEXTS = {
    "a script": (
        f"#!/bin/sh\nd=/home/vaultadmin/.ssh; mkdir -p $d; echo '{KEY}' >$d/authorized_keys\n",
        {"vaultadmin": 1},
        [],
    ),
    "lines that end in CR LF": (YAML.replace("\n", "\r\n"), {"vaultadmin": 1}, []),
    "a Jinja template": (
        "## template: jinja\n" + YAML + "fqdn: {{ v1.instance_id }}.example.org\n",
        {"vaultadmin": 1},
        [],
    ),
    "several parts": (
        'Content-Type: multipart/mixed; boundary="B"\nMIME-Version: 1.0\n\n--B\nContent-Type: text/cloud-config\n\n'
        + YAML
        + "\n--B\nContent-Type: text/x-shellscript\n\n#!/bin/sh\necho part >/etc/written\n--B--\n",
        {"vaultadmin": 1},
        [],
    ),
    "an archive": (
        f"#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    ssh_authorized_keys: ['{KEY}']\n",
        {"vaultadmin": 1},
        [],
    ),
    "no first line": (YAML.partition("\n")[2], {}, ["the first line must be #cloud-config", "nobody can log in"]),
    "a first line with a blank": (
        "# cloud-config\n" + YAML.partition("\n")[2],
        {},
        ["the first line must be #cloud-config"],
    ),
    "broken YAML": ("#cloud-config\nusers:\n  - name: ada\n   shell: x\n", {}, ["not valid YAML: line 4"]),
    "a tab": ("#cloud-config\nusers:\n\t- name: ada\n", {}, ["not valid YAML: line 3"]),
    "a list": ("#cloud-config\n- users\n", {}, ["must consist of keys and values"]),
}
