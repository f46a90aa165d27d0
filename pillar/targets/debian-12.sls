# The default: builds on any Debian or Ubuntu machine, no GPU, no KVM, no vendor repository.
target:
  name: debian-12
  os: Debian
  release: '12'
  codename: bookworm
  architecture: amd64
  python: '3.11'
  accelerator: cpu

archive:
  wheel_index: null
  # torch's CPU build; its hash is in the lock wherever it is served from
  extra_wheel_indexes: [https://download.pytorch.org/whl/cpu]
  sources:
    - archive: debian
      mirror: http://ftp.debian.org/debian
      snapshot: https://snapshot.debian.org/archive/debian/{date}
      suites: [bookworm, bookworm-updates]
      components: [main]
      keyring: /usr/share/keyrings/debian-archive-keyring.gpg
    - archive: debian-security
      mirror: http://security.debian.org/debian-security
      snapshot: https://snapshot.debian.org/archive/debian-security/{date}
      suites: [bookworm-security]
      components: [main]
      keyring: /usr/share/keyrings/debian-archive-keyring.gpg
