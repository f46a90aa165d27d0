modules that the box always needs are loaded at boot:
  file.managed:
    - name: /etc/modules-load.d/vault-cube.conf
    - mode: '0644'
    - contents: {{ (['# written by salt/base/kernel.sls'] + pillar.base.kernel.modules) | json }}

# files, not sysctl.present: in a chroot that would change the building machine's kernel
kernel settings:
  file.managed:
    - name: /etc/sysctl.d/60-vault-cube.conf
    - mode: '0644'
    - contents:
      - '# written by salt/base/kernel.sls'
{%- for key, value in pillar.base.kernel.sysctl | dictsort %}
      - {{ key }} = {{ value }}
{%- endfor %}

kernel settings take effect at once on a running box:
  cmd.run:
    - name: sysctl --quiet --load /etc/sysctl.d/60-vault-cube.conf
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: kernel settings

# it lies in the boot file, which only a new image changes: an upgrade alone would part modules and kernel
the kernel is held:
  pkg.held:
    - name: {{ pillar.base.kernel.package }}
    - require:
      - sls: base.packages
