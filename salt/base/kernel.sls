modules that the box always needs are loaded at boot:
  file.managed:
    - name: /etc/modules-load.d/vault-cube.conf
    - user: root
    - group: root
    - mode: '0644'
    - contents: {{ (['# written by salt/base/kernel.sls'] + pillar.base.kernel.modules) | json }}

# `install` also stops `modprobe NAME`, which `blacklist` does not
modules that the box never needs are blocked:
  file.managed:
    - name: /etc/modprobe.d/vault-cube.conf
    - user: root
    - group: root
    - mode: '0644'
    - contents:
      - '# written by salt/base/kernel.sls'
{%- for module in pillar.base.kernel.blocked %}
      - blacklist {{ module }}
      - install {{ module }} /bin/false
{%- endfor %}

# A file, because sysctl.present in a chroot would change the builder's kernel.
# The last file wins: 99-vault-cube sorts after the distribution's 99-protect-links and 99-sysctl
kernel settings:
  file.managed:
    - name: /etc/sysctl.d/99-vault-cube.conf
    - user: root
    - group: root
    - mode: '0644'
    - contents:
      - '# written by salt/base/kernel.sls'
{%- for key, value in pillar.base.kernel.sysctl | dictsort if value is not none %}
      - {{ (key ~ ' = ' ~ value) | json }}
{%- endfor %}

kernel settings take effect at once on a running box:
  cmd.run:
    - name: sysctl --quiet --ignore --load /etc/sysctl.d/99-vault-cube.conf
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: kernel settings

# The kernel is part of the boot file, which only a new image replaces: after an upgrade, modules and kernel would not match.
the kernel is held:
  held.packages:
    - packages: [{{ pillar.base.kernel.package | json }}]

# The hold covers the metapackage only; a rebuilt kernel package with an unchanged name would still be installed.
# If two pins match a package, the first one applies: 00- sorts before all other files
no archive offers another kernel:
  file.managed:
    - name: /etc/apt/preferences.d/00-vault-cube-kernel
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/base/kernel.sls
        Package: linux-image-*
        Pin: release *
        Pin-Priority: -1
