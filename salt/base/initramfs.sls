include:
  - base.packages

# Nothing in the initial RAM disk may depend on the machine that builds the image. RESUME: without it initramfs-tools takes the
# largest swap device in /proc/swaps, which in a chroot lists the builder's. Written before the kernel is installed, which
# makes the disk; the last file wins, and zz- comes after what an installer writes (driver-policy, resume)
the initial RAM disk fits any machine:
  file.managed:
    - name: /etc/initramfs-tools/conf.d/zz-vault-cube
    - makedirs: True
    - mode: '0644'
    - contents:
      - '# written by salt/base/initramfs.sls'
      - MODULES=most
      - RESUME=none
    - require_in:
      - pkg: the base packages are installed

# by default the packages' hooks look for their vendor in /proc/cpuinfo, and take nothing for another one
{% set settings = {
  'amd64-microcode': ['AMD64UCODE_INITRAMFS=early'],
  'intel-microcode': ['IUCODE_TOOL_INITRAMFS=early', 'IUCODE_TOOL_SCANCPUS=no'],
} %}
{% set packages = settings | select('in', pillar.base.packages) | list %}
{% for package in packages %}
{{ package }} is for every processor:
  file.managed:
    - name: /etc/default/{{ package }}
    - mode: '0644'
    - contents: {{ (['# written by salt/base/initramfs.sls'] + settings[package]) | json }}
    - require:
      - sls: base.packages
{% endfor %}

# after the packages, whose conffiles these are: a file that is there before would leave a .dpkg-dist
{% if packages %}
initial RAM disk has the microcode:
  cmd.run:
    - name: update-initramfs -u -k all
    - onchanges:
  {%- for package in packages %}
      - file: {{ package }} is for every processor
  {%- endfor %}
{% endif %}
