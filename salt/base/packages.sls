the base packages are installed:
  pkg.installed:
    - pkgs: {{ pillar.base.packages | json }}
    - require:
      - sls: base.users

the box's apt sources:
  file.managed:
    - name: /etc/apt/sources.list
    - mode: '0644'
    - contents:
      - '# written by salt/base/packages.sls from pillar archive:sources'
{%- for source in pillar.archive.sources %}
{%- for suite in source.suites %}
      - deb [signed-by={{ source.keyring }}] {{ source.mirror }} {{ suite }} {{ source.components | join(' ') }}
{%- endfor %}
{%- endfor %}

# the last file wins: 99v comes after Ubuntu's 99update-notifier
apt installs no recommended packages:
  file.managed:
    - name: /etc/apt/apt.conf.d/99vault-cube
    - mode: '0644'
    - contents: |
        // written by salt/base/packages.sls: what is installed is what the pillar lists
        APT::Install-Recommends "false";
        APT::Install-Suggests "false";
        // a file that a state has written is no reason to stop a security update and ask
        Dpkg::Options {"--force-confdef"; "--force-confold";};
