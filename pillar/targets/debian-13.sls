# The second family member: newer kernel and Python, no vendor repository.
target:
  name: debian-13
  os: Debian
  release: '13'
  codename: trixie
  architecture: amd64
  python: '3.13'
  accelerator: cpu

archive:
  wheel_index: null
  # torch's CPU build; its hash is in the lock wherever it is served from
  extra_wheel_indexes: [https://download.pytorch.org/whl/cpu]
  sources:
    - archive: debian
      mirror: http://ftp.debian.org/debian
      snapshot: https://snapshot.debian.org/archive/debian/{date}
      suites: [trixie, trixie-updates]
      components: [main]
      keyring: /usr/share/keyrings/debian-archive-keyring.gpg
    - archive: debian-security
      mirror: http://security.debian.org/debian-security
      snapshot: https://snapshot.debian.org/archive/debian-security/{date}
      suites: [trixie-security]
      components: [main]
      keyring: /usr/share/keyrings/debian-archive-keyring.gpg
