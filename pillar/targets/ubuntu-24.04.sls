# Production, the demo box: 4x RTX 5090.
target:
  name: ubuntu-24.04
  os: Ubuntu
  release: '24.04'
  codename: noble
  architecture: amd64
  python: '3.12'
  accelerator: nvidia

archive:
  wheel_index: null
  extra_wheel_indexes: []
  sources:
    - archive: ubuntu
      mirror: http://archive.ubuntu.com/ubuntu
      snapshot: https://snapshot.ubuntu.com/ubuntu/{date}
      suites: [noble, noble-updates]
      components: [main, restricted, universe]
      keyring: /usr/share/keyrings/ubuntu-archive-keyring.gpg
    - archive: ubuntu
      mirror: http://security.ubuntu.com/ubuntu
      snapshot: https://snapshot.ubuntu.com/ubuntu/{date}
      suites: [noble-security]
      components: [main, restricted, universe]
      keyring: /usr/share/keyrings/ubuntu-archive-keyring.gpg
