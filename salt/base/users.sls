# before any package: groups that packages would make take the next free id, which depends on their order
{% for name, gid in pillar.base.system_groups.items() %}
group {{ name }} has its fixed id:
  group.present:
    - name: {{ name }}
    - gid: {{ gid }}
    - system: True
{% endfor %}

{% for name, user in pillar.base.users.items() %}
{{ name }} has a group of its own:
  group.present:
    - name: {{ name }}
    - gid: {{ user.gid }}

{{ name }} has an account without a password:
  user.present:
    - name: {{ name }}
    - uid: {{ user.uid }}
    - gid: {{ user.gid }}
    - groups: {{ user.groups | json }}
    - optional_groups: {{ user.groups | json }}
    - remove_groups: False
    - shell: {{ user.shell }}
    - home: /home/{{ name }}
    - createhome: True
    - require:
      - group: {{ name }} has a group of its own
{%- for group in pillar.base.system_groups %}
      - group: group {{ group }} has its fixed id
{%- endfor %}

{{ name }} may become root:
  file.managed:
    - name: /etc/sudoers.d/60-{{ name }}
    - mode: '0440'
    - makedirs: True
    - contents:
      - '# written by salt/base/users.sls: there is no password that sudo could ask for'
      - {{ name }} ALL=(ALL:ALL) {{ 'NOPASSWD: ALL' if 'sudo' in user.groups else '!ALL' }}

{% if user.ssh_keys %}
{{ name }} is let in by the pillar's keys:
  file.managed:
    - name: /home/{{ name }}/.ssh/authorized_keys2
    - user: {{ name }}
    - group: {{ name }}
    - mode: '0600'
    - dir_mode: '0700'
    - makedirs: True
    - contents: {{ user.ssh_keys | json }}
    - require:
      - user: {{ name }} has an account without a password
{% endif %}
{% endfor %}
