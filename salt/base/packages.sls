# Salt asks apt-cache for each name before it refreshes the lists. With no lists apt takes a name such as g++ for a
# pattern, and Salt fails on the answer. A build has its lists before Salt runs.
apt has package lists:
  cmd.run:
    - name: apt-get -qq update
    - onlyif: test -d /run/systemd/system
    - unless: eval "$(apt-config shell lists Dir::State::lists/d)"; ls "$lists"/*_Packages* >/dev/null 2>&1

the base packages are installed:
  pkg.installed:
    - pkgs: {{ pillar.base.packages | json }}
    - require:
      - sls: base.users
      - cmd: apt has package lists

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

# The last file wins: 99v sorts after Ubuntu's 99update-notifier
apt installs no recommended packages:
  file.managed:
    - name: /etc/apt/apt.conf.d/99vault-cube
    - mode: '0644'
    - contents: |
        // written by salt/base/packages.sls: only packages that the pillar lists, and their dependencies, are installed
        APT::Install-Recommends "false";
        APT::Install-Suggests "false";
        // keep configuration files that a state has changed, so that a security update does not stop to ask about them
        Dpkg::Options {"--force-confdef"; "--force-confold";};
