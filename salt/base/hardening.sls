{% set hardening = pillar.base.hardening %}

# Lines of the packages' files are changed, not the files: apt keeps the changed files (base.packages), and pam-auth-update keeps
# changed options of a module
{% for path in ('/etc/login.defs', '/etc/pam.d/common-auth', '/etc/pam.d/su') %}
only root writes {{ path }}:
  file.managed:
    - name: {{ path }}
    - replace: False
    - create: False
    - user: root
    - group: root
    - mode: '0644'
{% endfor %}

{% if not hardening.nullok %}
an empty password does not log in:
  file.replace:
    - name: /etc/pam.d/common-auth
    - pattern: '^(auth[ \t].*pam_unix\.so.*?)[ \t]+nullok\b'
    - repl: '\1'
    - backup: False
{% endif %}

{% for name in pillar.base.users %}
the home of {{ name }} has the pillar's mode:
  file.directory:
    - name: /home/{{ name }}
    # ids, because under test=True Salt warns about names that an earlier state would create
    - user: {{ pillar.base.users[name].uid }}
    - group: {{ pillar.base.users[name].gid }}
    - mode: {{ hardening.home_mode | json }}
    - require:
      - user: {{ name }} has an account without a password
{% endfor %}

# root is not part of *
sessions write {{ 'core files as the distribution allows' if hardening.core_dumps else 'no core files' }}:
{%- if hardening.core_dumps %}
  file.absent:
    - names: [/etc/security/limits.d/60-vault-cube.conf, /etc/systemd/coredump.conf.d/zz-vault-cube.conf]
{%- else %}
  file.managed:
    - name: /etc/security/limits.d/60-vault-cube.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - contents: |
        # written by salt/base/hardening.sls
        * hard core 0
        root hard core 0

# for an owner who installs it
systemd-coredump keeps no core files:
  file.managed:
    - name: /etc/systemd/coredump.conf.d/zz-vault-cube.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - contents: |
        # written by salt/base/hardening.sls
        [Coredump]
        Storage=none
        ProcessSizeMax=0
{%- endif %}

# Only the first of the package's commented lines with pam_wheel.so. root is admitted by pam_rootok.so above it
{% if hardening.su_group %}
su is for members of {{ hardening.su_group }}:
  file.replace:
    - name: /etc/pam.d/su
    - pattern: '^(#[ \t]*)?auth[ \t]+required[ \t]+pam_wheel\.so(?![ \t]+deny)[^\n]*$'
    - repl: auth       required   pam_wheel.so use_uid group={{ hardening.su_group }}
    - count: 1
    - append_if_not_found: True
    - backup: False
{% endif %}

{% if hardening.sudo_log %}
sudo logs commands to a file:
  file.managed:
    - name: /etc/sudoers.d/zz-vault-cube-log
    - user: root
    - group: root
    - mode: '0440'
    - makedirs: True
    - dir_mode: '0750'
    - check_cmd: sh -c 'test ! -x /usr/sbin/visudo || visudo -cqf "$1"' visudo
    - contents: |
        # written by salt/base/hardening.sls
        Defaults logfile="{{ hardening.sudo_log }}"

sudo's log is rotated:
  file.managed:
    - name: /etc/logrotate.d/vault-cube-sudo
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - contents: |
        # written by salt/base/hardening.sls
        "{{ hardening.sudo_log }}" {
            monthly
            rotate 12
            maxsize 20M
            compress
            missingok
            notifempty
            create 0600 root root
        }
{% else %}
sudo logs to the journal only:
  file.absent:
    - names: [/etc/sudoers.d/zz-vault-cube-log, /etc/logrotate.d/vault-cube-sudo]
{% endif %}

# Package's files, which apt keeps once they are changed (base.packages)
{% if hardening.login_banner %}
consoles show the banner before login:
  file.managed:
    - names: [/etc/issue, /etc/issue.net]
    - user: root
    - group: root
    - mode: '0644'
    - contents: {{ pillar.base.ssh.banner | yaml_dquote }}
{% endif %}

# They apply from the next boot: a mount over the /tmp of a running box would hide its files
temporary files are mounted without devices and setuid:
  shared.block:
    - name: /etc/fstab
    - by: salt/base/hardening.sls
    - user: root
    - group: root
    - mode: '0644'
    - lines:
{%- for path, options in hardening.tmpfs | dictsort if options %}
      - tmpfs {{ path }} tmpfs {{ options }} 0 0
{%- else %} []
{%- endfor %}

# dpkg applies its list to each new version of a package
{% for program in hardening.no_setuid %}
{{ program }} has no setuid and no setgid:
  setuid.removed:
    - name: {{ program | json }}
{% endfor %}
