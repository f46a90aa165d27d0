"""Invalid pillars: content of local.sls, the key that the error names, and a part of its message.

`SECRETS` are values that no message may contain.
"""

HUNTER = "correct-horse-battery"
HASH = "$6$saltsalt$0123456789abcdefghijklmnopqrstuvwxyz"
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
CUT = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me"
WRONG_TYPE = "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me"
SECRETS = (HUNTER, HASH, "b3BlbnNzaC1rZXktdjE")


def _user(**more):
    return {"base": {"users": {"vaultadmin": more}}}


def _second(**more):
    account = {"uid": 1001, "gid": 1001, "groups": [], "shell": "/bin/bash", "ssh_keys": []}
    return {"base": {"users": {"second": {**account, **more}}}}


BROKEN = {
    "a code name as the C library's version": ({"target": {"glibc": "bookworm"}}, "target:glibc", "match pattern"),
    "an impossible version of the C library": ({"target": {"glibc": "3.1"}}, "target:glibc", "match pattern"),
    "an unknown key": ({"base": {"colour": "red"}}, "base:colour", "no such key"),
    "an unknown section": ({"bases": {}}, "bases", "no such key"),
    "a string for a number": ({"base": {"ssh": {"port": "22"}}}, "base:ssh:port", "valid integer"),
    "a number for a string": ({"base": {"hostname": 7}}, "base:hostname", "valid string"),
    "a list for a section": ({"base": ["ssh"]}, "base", "valid dictionary"),
    "a port out of range": ({"base": {"ssh": {"port": 70000}}}, "base:ssh:port", "65535"),
    "a host name with a space": ({"base": {"hostname": "vault cube"}}, "base:hostname", "match pattern"),
    "an unknown time zone": ({"base": {"timezone": "Mars/Olympus"}}, "base:timezone", "no such time zone"),
    "a locale that is not installed": ({"base": {"locale": "de_DE.UTF-8"}}, "base", "locales-all"),
    "a password": (_user(password=HUNTER), "base:users:vaultadmin:password", "must not contain passwords"),
    "a key named like a password hash": (
        _user(hashed_passwd=HASH), "base:users:vaultadmin:hashed_passwd", "must not contain passwords",
    ),
    "a password hash as a value": (_user(shell=HASH), "base:users:vaultadmin:shell", "password hash"),
    "a private key": (_user(ssh_keys=[PRIVATE]), "base:users:vaultadmin:ssh_keys:0", "private key"),
    "a key that was cut off": (_user(ssh_keys=[CUT]), "base:users:vaultadmin:ssh_keys:0", "incomplete"),
    "a key of another type": (_user(ssh_keys=[WRONG_TYPE]), "base:users:vaultadmin:ssh_keys:0", "its type is not"),
    "a string that is not a key": (_user(ssh_keys=["hello"]), "base:users:vaultadmin:ssh_keys:0", "begins with its"),
    "root as a user": ({"base": {"users": {"root": {**_second()["base"]["users"]["second"]}}}}, "base", "root"),
    "a system uid for a user": (_second(uid=33), "base:users:second:uid", "1000"),
    "a uid used twice": (_second(uid=1000), "base", "uid 1000"),
    "a gid used twice": (_second(gid=1000), "base", "gid 1000"),
    "no user in group sudo": (_user(groups=["docker"]), "base", "must be in group sudo"),
    "too many login attempts": ({"base": {"ssh": {"max_auth_tries": 20}}}, "base:ssh:max_auth_tries", "equal to 6"),
    "a broken cipher": ({"base": {"ssh": {"ciphers": ["aes128-cbc"]}}}, "base:ssh:ciphers:0", "outdated"),
    "an injected line of sshd's configuration": (
        {"base": {"ssh": {"macs": ["hmac-sha2-256\nPermitRootLogin yes"]}}}, "base:ssh:macs:0", "match pattern",
    ),
    "a firewall that blocks ssh": ({"base": {"firewall": {"allow_tcp": [443]}}}, "base", "ssh's port 22"),
    "a port listed twice": ({"base": {"firewall": {"allow_tcp": [22, 22]}}}, "base", "port 22 twice"),
    "a port of containers listed twice": (
        {"base": {"firewall": {"container_tcp": [80, 80]}}}, "base", "container_tcp has port 80 twice",
    ),
    "two listeners on a port": (
        {"base": {"ssh": {"port": 8000}, "firewall": {"allow_tcp": [8000]}}}, "",
        "base:ssh:port 8000 is also a port of vLLM",
    ),
    "an ssh service not enabled": ({"base": {"ssh": {"service": "ssh.socket"}}}, "base", "units lacks ssh.socket"),
    "an invalid bind address": (
        {"base": {"docker": {"publish_address": "300.0.0.1"}}}, "base:docker:publish_address", "300",
    ),
    "containers without a network": (
        {"base": {"kernel": {"sysctl": {"net.ipv4.ip_forward": "0"}}}}, "base:kernel", "would have no network",
    ),
    "updates of the kernel": ({"base": {"updates": {"never": ["docker"]}}}, "base:updates", "linux-image-amd64"),
    "updates of everything": ({"base": {"updates": {"origins": ["origin=Debian"]}}}, "base:updates", "only security"),
    "an invalid regular expression": (
        {"base": {"updates": {"never": ["linux-("]}}}, "base:updates:never:0", "not a regular expression",
    ),
    "fail2ban without access to the journal": ({"base": {"packages": ["openssh-server"]}}, "base", "python3-systemd"),
    "a unit both enabled and disabled": ({"base": {"units_off": ["ufw.service"]}}, "base", "ufw.service"),
    "a warning above the fault": (
        {"gpu": {"health": {"celsius": {"warning": 95}}}}, "gpu:health:celsius", "below fault 92",
    ),
    "an unknown accepted check": (
        {"gpu": {"health": {"accepted": {"fans": "loud"}}}}, "gpu:health:accepted", "fans is not a check of gpu.health",
    ),
    "an unknown throttle reason": (
        {"gpu": {"health": {"throttle_share": {"heat": 0.5}}}}, "gpu:health:throttle_share:heat:[key]", "sw_power_cap",
    ),
    "two exporters on a port": (
        {"validation": {"monitoring": {"port": 22}}}, "", "validation:monitoring:port 22 is also base:ssh:port",
    ),
    "an image without its digest": (
        {"validation": {"monitoring": {"dcgm": {"image": "nvcr.io/nvidia/k8s/dcgm-exporter:4.4.1"}}}},
        "validation:monitoring:dcgm:image", "match pattern",
    ),
    "a Prometheus that is not installed": (
        {"validation": {"monitoring": {"prometheus": {"enabled": True}}}}, "validation", "monitoring needs",
    ),
    "monitoring without its exporter": ({"validation": {"packages": ["htop"]}}, "validation", "monitoring needs"),
    "a negative threshold": (
        {"validation": {"monitoring": {"alerts": {"memory": {"above": -1}}}}},
        "validation:monitoring:alerts:memory:above", "0",
    ),
    "a keyword of sshd with a key of its own": (
        {"base": {"ssh": {"settings": {"PermitRootLogin": "yes"}}}}, "base:ssh:settings", "is set by salt/base/ssh.sls",
    ),
    "a match block of sshd": (
        {"base": {"ssh": {"settings": {"Match": "all"}}}}, "base:ssh:settings", "Match is set by",
    ),
    "a second line in a value of sshd": (
        {"base": {"ssh": {"settings": {"LogLevel": "INFO\nPermitRootLogin yes"}}}},
        "base:ssh:settings:LogLevel", "pattern",
    ),
    "a blocked module that Docker needs": (
        {"base": {"kernel": {"blocked": ["overlay"]}}}, "base:kernel", "the box needs",
    ),
    "a blocked module spelled with hyphens": (
        {"base": {"kernel": {"blocked": ["usb-storage"]}}}, "base:kernel", "usb_storage, which the box needs",
    ),
    "a module both loaded and blocked": (
        {"base": {"kernel": {"modules": ["tls"], "blocked": ["tls"]}}}, "base:kernel", "tls, which the box needs",
    ),
    "a soft limit above the hard one": (
        {"base": {"docker": {"default_ulimits": {"nofile": {"soft": 9,
        "hard": 1}}}}}, "base:docker:default_ulimits:nofile",
        "above hard",
    ),
    "sudo without setuid": (
        {"base": {"hardening": {"no_setuid": ["/usr/bin/sudo"]}}}, "base:hardening:no_setuid", "needs setuid",
    ),
    "a home that its owner cannot write": (
        {"base": {"hardening": {"home_mode": "0550"}}}, "base:hardening:home_mode", "owner read and write",
    ),
    "a home that everybody can write": (
        {"base": {"hardening": {"home_mode": "0777"}}}, "base:hardening:home_mode", "not everybody write",
    ),
    "mount options with a second entry": (
        {"base": {"hardening": {"tmpfs": {"/tmp": "nosuid 0 0"}}}}, "base:hardening:tmpfs:/tmp", "pattern",
    ),
    "a tmpfs on a folder of the disk": (
        {"base": {"hardening": {"tmpfs": {"/var": "nosuid"}}}}, "base:hardening:tmpfs:/var:[key]", "/dev/shm",
    ),
    "a group for su that does not exist": (
        {"base": {"hardening": {"su_group": "wheel"}}}, "base", "system_groups lacks wheel",
    ),
    "a missing value": ({"base": {"fail2ban": {"ban_s": None}}}, "base:fail2ban:ban_s", "valid integer"),
}  # fmt: skip
