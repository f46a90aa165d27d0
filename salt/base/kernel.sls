modules that the box always needs are loaded at boot:
  file.managed:
    - name: /etc/modules-load.d/vault-cube.conf
    - mode: '0644'
    - contents: {{ (['# written by salt/base/kernel.sls'] + pillar.base.kernel.modules) | json }}

# files, not sysctl.present: in a chroot that would change the building machine's kernel.
# The last file wins: 99-vault-cube comes after the distribution's 99-protect-links and 99-sysctl
kernel settings:
  file.managed:
    - name: /etc/sysctl.d/99-vault-cube.conf
    - mode: '0644'
    - contents:
      - '# written by salt/base/kernel.sls'
{%- for key, value in pillar.base.kernel.sysctl | dictsort %}
      - {{ key }} = {{ value }}
{%- endfor %}

kernel settings take effect at once on a running box:
  cmd.run:
    - name: sysctl --quiet --load /etc/sysctl.d/99-vault-cube.conf
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: kernel settings

# it lies in the boot file, which only a new image changes: an upgrade alone would part modules and kernel
# (pkg.held is True under test=True even where the hold is gone: drift would not be told)
the kernel is held:
  cmd.run:
    - name: apt-mark hold {{ pillar.base.kernel.package }}
    - unless: apt-mark showhold | grep -qx {{ pillar.base.kernel.package }}
    - require:
      - sls: base.packages

# the hold is on the package that names the newest kernel; a rebuild under the same name would slip through
# (of two pins for a package the first counts: 00- comes before any other file)
no archive offers another kernel:
  file.managed:
    - name: /etc/apt/preferences.d/00-vault-cube-kernel
    - mode: '0644'
    - contents: |
        # written by salt/base/kernel.sls
        Package: linux-image-*
        Pin: release *
        Pin-Priority: -1
