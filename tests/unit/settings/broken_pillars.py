"""Pillars that nobody can build: local.sls as it was written, the key that is to blame, words of the answer.

`SECRETS` are values that no answer may repeat.
"""

HUNTER = "correct-horse-battery"
HASH = "$6$saltsalt$0123456789abcdefghijklmnopqrstuvwxyz"
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
CUT = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me"
LYING = "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me"
SECRETS = (HUNTER, HASH, "b3BlbnNzaC1rZXktdjE")


def _user(**more):
    return {"base": {"users": {"vaultadmin": more}}}


def _second(**more):
    account = {"uid": 1001, "gid": 1001, "groups": [], "shell": "/bin/bash", "ssh_keys": []}
    return {"base": {"users": {"second": {**account, **more}}}}


BROKEN = {
    "a C library that is no version": ({"target": {"glibc": "bookworm"}}, "target:glibc", "match pattern"),
    "a C library of another world": ({"target": {"glibc": "3.1"}}, "target:glibc", "match pattern"),
    "an unknown key": ({"base": {"colour": "red"}}, "base:colour", "no such key"),
    "an unknown section": ({"bases": {}}, "bases", "no such key"),
    "a text for a number": ({"base": {"ssh": {"port": "22"}}}, "base:ssh:port", "valid integer"),
    "a number for a text": ({"base": {"hostname": 7}}, "base:hostname", "valid string"),
    "a list for a section": ({"base": ["ssh"]}, "base", "valid dictionary"),
    "a port that is none": ({"base": {"ssh": {"port": 70000}}}, "base:ssh:port", "65535"),
    "a host name with a space": ({"base": {"hostname": "vault cube"}}, "base:hostname", "match pattern"),
    "an unknown time zone": ({"base": {"timezone": "Mars/Olympus"}}, "base:timezone", "no such time zone"),
    "a locale nobody makes": ({"base": {"locale": "de_DE.UTF-8"}}, "base", "locales-all"),
    "a password in clear": (_user(password=HUNTER), "base:users:vaultadmin:password", "no password"),
    "a password's hash by name": (_user(hashed_passwd=HASH), "base:users:vaultadmin:hashed_passwd", "no password"),
    "a password's hash as a value": (_user(shell=HASH), "base:users:vaultadmin:shell", "hash of a password"),
    "a private key": (_user(ssh_keys=[PRIVATE]), "base:users:vaultadmin:ssh_keys:0", "private key"),
    "a key that was cut off": (_user(ssh_keys=[CUT]), "base:users:vaultadmin:ssh_keys:0", "not whole"),
    "a key of another type": (_user(ssh_keys=[LYING]), "base:users:vaultadmin:ssh_keys:0", "not of the type"),
    "a key that is no key": (_user(ssh_keys=["hello"]), "base:users:vaultadmin:ssh_keys:0", "begins with one of"),
    "root as a person": ({"base": {"users": {"root": {**_second()["base"]["users"]["second"]}}}}, "base", "root"),
    "a uid of the system": (_second(uid=33), "base:users:second:uid", "1000"),
    "a uid for two": (_second(uid=1000), "base", "uid 1000"),
    "a gid for two": (_second(gid=1000), "base", "gid 1000"),
    "nobody who may become root": (_user(groups=["docker"]), "base", "without group sudo"),
    "endless tries": ({"base": {"ssh": {"max_auth_tries": 20}}}, "base:ssh:max_auth_tries", "equal to 6"),
    "a broken cipher": ({"base": {"ssh": {"ciphers": ["aes128-cbc"]}}}, "base:ssh:ciphers:0", "outdated"),
    "a line smuggled into sshd's file": (
        {"base": {"ssh": {"macs": ["hmac-sha2-256\nPermitRootLogin yes"]}}}, "base:ssh:macs:0", "match pattern",
    ),
    "a wall without a door": ({"base": {"firewall": {"allow_tcp": [443]}}}, "base", "ssh's port 22"),
    "a port named twice": ({"base": {"firewall": {"allow_tcp": [22, 22]}}}, "base", "port 22 twice"),
    "two listeners on a port": (
        {"base": {"ssh": {"port": 8000}, "firewall": {"allow_tcp": [8000]}}}, "", "base:ssh:port 8000 is also vLLM's",
    ),
    "a service that is off": ({"base": {"ssh": {"service": "ssh.socket"}}}, "base", "units leaves out ssh.socket"),
    "a bind address that is none": (
        {"base": {"docker": {"publish_address": "300.0.0.1"}}}, "base:docker:publish_address", "300",
    ),
    "containers without a network": (
        {"base": {"kernel": {"sysctl": {"net.ipv4.ip_forward": "0"}}}}, "base:kernel", "lose their network",
    ),
    "updates of the kernel": ({"base": {"updates": {"never": ["docker"]}}}, "base:updates", "linux-image-amd64"),
    "updates of everything": ({"base": {"updates": {"origins": ["origin=Debian"]}}}, "base:updates", "more than"),
    "a regular expression that is none": (
        {"base": {"updates": {"never": ["linux-("]}}}, "base:updates:never:0", "not a regular expression",
    ),
    "a ban without its eyes": ({"base": {"packages": ["openssh-server"]}}, "base", "python3-systemd"),
    "a unit both on and off": ({"base": {"units_off": ["ufw.service"]}}, "base", "ufw.service"),
    "a warning that comes too late": (
        {"gpu": {"health": {"celsius": {"warning": 95}}}}, "gpu:health:celsius", "below fault 92",
    ),
    "an accepted check that is none": (
        {"gpu": {"health": {"accepted": {"fans": "loud"}}}}, "gpu:health:accepted", "fans is no check of gpu.health",
    ),
    "a reason that the driver does not know": (
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
    "readings without their exporter": ({"validation": {"packages": ["htop"]}}, "validation", "monitoring needs"),
    "a threshold below nothing": (
        {"validation": {"monitoring": {"alerts": {"memory": {"above": -1}}}}},
        "validation:monitoring:alerts:memory:above", "0",
    ),
    "a missing value": ({"base": {"fail2ban": {"ban_s": None}}}, "base:fail2ban:ban_s", "valid integer"),
}  # fmt: skip
