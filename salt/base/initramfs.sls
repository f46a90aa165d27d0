include:
  - base.packages

# Nothing in the initial RAM disk may depend on the builder. Without RESUME, initramfs-tools takes the largest swap device in
# /proc/swaps, which in a chroot lists the builder's devices. The file is written before the kernel is installed, because that
# installation generates the initial RAM disk. The last file wins: zz- sorts after the files of installers (driver-policy, resume)
the initial RAM disk fits any machine:
  file.managed:
    - name: /etc/initramfs-tools/conf.d/zz-vault-cube
    - makedirs: True
    - user: root
    - group: root
    - mode: '0644'
    - contents:
      - '# written by salt/base/initramfs.sls'
      - MODULES=most
      - RESUME=none
      # fsck of this type checks the root before it is mounted. By default, the hook looks for the builder's file systems
      - FSTYPE=ext4
    - require_in:
      - packages: the base packages are installed

# Disks that were written from one image have the same ids: the root must be on the disk that the firmware has started
{% for name, place in (('hook', 'hooks'), ('root', 'scripts/local-top')) %}
initial RAM disk finds the disk that was started, {{ name }}:
  file.managed:
    - name: /etc/initramfs-tools/{{ place }}/vault-cube-root
    - source: salt://base/files/initramfs/{{ name }}
    - makedirs: True
    - user: root
    - group: root
    - mode: '0755'
    - require_in:
      - packages: the base packages are installed
{% endfor %}

# By default, the hooks of these packages add their microcode only if /proc/cpuinfo names their vendor
{% set settings = {
  'amd64-microcode': ['AMD64UCODE_INITRAMFS=early'],
  'intel-microcode': ['IUCODE_TOOL_INITRAMFS=early', 'IUCODE_TOOL_SCANCPUS=no'],
} %}
{% set packages = settings | select('in', pillar.base.packages) | list %}
{% for package in packages %}
{{ package }} covers every processor:
  file.managed:
    - name: /etc/default/{{ package }}
    - user: root
    - group: root
    - mode: '0644'
    - contents: {{ (['# written by salt/base/initramfs.sls'] + settings[package]) | json }}
{% endfor %}

# Written after the packages are installed, because these files are their conffiles: dpkg would leave a .dpkg-dist file
# beside one that already exists
{% if packages %}
initial RAM disk has the microcode:
  cmd.run:
    - name: update-initramfs -u -k all
    - onchanges:
  {%- for package in packages %}
      - file: {{ package }} covers every processor
  {%- endfor %}
{% endif %}
