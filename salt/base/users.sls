# Created before any package, because the ids that packages assign depend on the order of unpacking. An account that
# already exists with another id keeps it, because files belong to that id.
{% for name, gid in pillar.base.system_groups.items() %}
group {{ name }} has its fixed id:
  account.group:
    - name: {{ name | json }}
    - gid: {{ gid }}
{% endfor %}

{% for name, user in pillar.base.system_users.items() %}
system user {{ name }} has its fixed id:
  account.user:
    - name: {{ name | json }}
    - uid: {{ user.uid }}
    - group: {{ user.group | json }}
    - home: {{ user.home | json }}
    - require:
{%- for group in pillar.base.system_groups %}
      - account: group {{ group }} has its fixed id
{%- endfor %}
{% endfor %}

# Before the people's accounts, which take their home's mode and files from these
{% set hardening = pillar.base.hardening %}
{% set login_defs = {'ENCRYPT_METHOD': hardening.encrypt_method, 'HOME_MODE': hardening.home_mode, 'UMASK': hardening.umask,
                     'PASS_MIN_DAYS': hardening.pass_min_days, 'SHA_CRYPT_MIN_ROUNDS': hardening.sha_rounds,
                     'SHA_CRYPT_MAX_ROUNDS': hardening.sha_rounds} %}
{% for key, value in login_defs.items() if value is not none %}
new accounts have the pillar's {{ key }}:
  file.replace:
    - name: /etc/login.defs
    - pattern: '^(#[ \t]*)?{{ key }}[ \t]+[A-Z0-9]+[ \t]*$'
    - repl: "{{ key }}\t{{ value }}"
    - append_if_not_found: True
    - backup: False
{% endfor %}

{% for name in ('.bash_logout', '.bashrc', '.profile') %}
{{ name }} of new homes has the pillar's mode:
  file.managed:
    - name: /etc/skel/{{ name }}
    - replace: False
    - create: False
    - user: root
    - group: root
    - mode: {{ hardening.dot_file_mode | json }}
{% endfor %}

{% for name, user in pillar.base.users.items() %}
{{ name }} has a group of its own:
  group.present:
    - name: {{ name | json }}
    - gid: {{ user.gid }}

{{ name }} has an account without a password:
  user.present:
    - name: {{ name | json }}
    - uid: {{ user.uid }}
    - gid: {{ user.gid }}
    - groups: {{ (user.groups + [pillar.base.ssh.group]) | unique | json }}
    - remove_groups: False
    - shell: {{ user.shell | json }}
    - home: /home/{{ name }}
    - createhome: True
    - require:
      - group: {{ name }} has a group of its own
{%- for group in pillar.base.system_groups %}
      - account: group {{ group }} has its fixed id
{%- endfor %}

{{ name }} cannot log in with a password, and is not shut out:
  account.without_password:
    - name: {{ name | json }}
    - require:
      - user: {{ name }} has an account without a password

{% if 'sudo' in user.groups %}
# NOPASSWD, because no account has a password. The last rule wins: 99- sorts after cloud-init's 90-cloud-init-users. The file is
# checked before it is installed, because a syntax error would disable sudo for everybody
{{ name }} may become root:
  file.managed:
    - name: /etc/sudoers.d/99-{{ name }}
    - user: root
    - group: root
    - mode: '0440'
    - makedirs: True
    - dir_mode: '0750'
    - check_cmd: sh -c 'test ! -x /usr/sbin/visudo || visudo -cqf "$1"' visudo
    - contents: |
        # written by salt/base/users.sls: NOPASSWD, because no account has a password
        {{ name }} ALL=(ALL:ALL) NOPASSWD: ALL
{% else %}
{{ name }} may not become root:
  file.absent:
    - name: /etc/sudoers.d/99-{{ name }}
{% endif %}

# authorized_keys belongs to cloud-init. A key that is removed from the pillar is removed from this file
{% if user.ssh_keys %}
{{ name }} has a place for keys:
  file.directory:
    - name: /home/{{ name }}/.ssh
    - user: {{ name | json }}
    - group: {{ name | json }}
    - mode: '0700'
    - require:
      - user: {{ name }} has an account without a password

{{ name }} is let in by the pillar's keys:
  shared.block:
    - name: /home/{{ name }}/.ssh/authorized_keys2
    - by: salt/base/users.sls
    - user: {{ name | json }}
    - group: {{ name | json }}
    - mode: '0600'
    # one line per key: an entry may have the white space, empty lines and comment lines that sshd allows
    - lines:
{%- for entry in user.ssh_keys %}
{%- for line in entry.splitlines() if line.split() and not line.lstrip().startswith('#') %}
      - {{ line.split() | join(' ') | json }}
{%- endfor %}
{%- endfor %}
    - require:
      - file: {{ name }} has a place for keys
{% else %}
{{ name }} is let in by no key of the pillar:
  shared.block:
    - name: /home/{{ name }}/.ssh/authorized_keys2
    - by: salt/base/users.sls
    - user: {{ name | json }}
    - group: {{ name | json }}
    - mode: '0600'
    - lines: []
{% endif %}
{% endfor %}

nobody can log in as root with a password:
  account.without_password:
    - name: root

the folder of sudo's rules belongs to root:
  file.directory:
    - name: /etc/sudoers.d
    - user: root
    - group: root
    - mode: '0750'
