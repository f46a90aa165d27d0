# Before the packages, because apt reads these files
the box's apt sources:
  shared.block:
    - name: /etc/apt/sources.list
    - by: salt/base/packages.sls
    - user: root
    - group: root
    - mode: '0644'
    - lines:
{%- for source in pillar.archive.sources %}
{%- for suite in source.suites %}
      - {{ ['deb [signed-by=' ~ source.keyring ~ ']', source.mirror, suite, source.components | join(' ')] | join(' ') | json }}
{%- endfor %}
{%- endfor %}

# The last file wins: 99v sorts after Ubuntu's 99update-notifier
apt installs no recommended packages:
  file.managed:
    - name: /etc/apt/apt.conf.d/99vault-cube
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        // written by salt/base/packages.sls: only packages that the pillar lists, and their dependencies, are installed
        APT::Install-Recommends "0";
        APT::Install-Suggests "0";
        // keep configuration files that a state has changed, so that a security update does not stop to ask about them
        Dpkg::Options {"--force-confdef"; "--force-confold";};

the base packages are installed:
  packages.installed:
    - pkgs: {{ pillar.base.packages | json }}
    - supplies: {{ pillar.base.supplies | json }}
    - lock: {{ opts.vault_cube.checkout }}/locks/{{ pillar.target.name }}/apt.lock
