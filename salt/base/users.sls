# Created before any package, because the ids that packages assign depend on the order of unpacking. An account that
# already exists with another id keeps it (`unless`), because files belong to that id.
{% for name, gid in pillar.base.system_groups.items() %}
group {{ name }} has its fixed id:
  group.present:
    - name: {{ name | json }}
    - gid: {{ gid }}
    - system: True
    - unless: getent group {{ name }}
{% endfor %}

{% for name, user in pillar.base.system_users.items() %}
system user {{ name }} has its fixed id:
  user.present:
    - name: {{ name | json }}
    - uid: {{ user.uid }}
    - gid: {{ user.group | json }}
    - home: {{ user.home | json }}
    - shell: /usr/sbin/nologin
    - createhome: False
    - system: True
    # a function, not a command: Salt would run a command with the account's own shell, nologin, which always fails
    - unless:
      - fun: file.search
        args: [/etc/passwd, '^{{ name }}:[^:]*:(?!{{ user.uid }}:)']
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

{{ name }} cannot log in with a password, and is not shut out:
  account.without_password:
    - name: {{ name | json }}
    - require:
      - user: {{ name }} has an account without a password

the home of {{ name }} is private:
  file.directory:
    - name: /home/{{ name }}
    # ids, because under test=True Salt warns about names that an earlier state would create
    - user: {{ user.uid }}
    - group: {{ user.gid }}
    - mode: '0750'
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
    - user: root
    - group: root
    - mode: '0644'
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
