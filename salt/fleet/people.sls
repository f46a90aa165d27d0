# People log in to salt-api with Unix accounts of this machine. The group is the role; the states make no accounts
{% from 'fleet/paths.jinja' import user %}

{% for role in pillar.fleet.server.roles %}
role {{ role }} is a group:
  group.present:
    - name: fleet-{{ role }}
    - system: True
{% endfor %}

# In group shadow, so that PAM can check passwords although the master does not run as root
the master runs as a user of its own:
  user.present:
    - name: {{ user }}
    - system: True
    - usergroup: True
    - groups: [shadow]
    - remove_groups: False
    - home: /nonexistent
    - createhome: False
    - shell: /usr/sbin/nologin

only members of the roles can log in:
  file.managed:
    - name: /etc/pam.d/vault-cube-fleet
    - mode: '0644'
    - contents: |
        # written by salt/fleet/people.sls
        auth requisite pam_succeed_if.so quiet user ingroup fleet-{{ pillar.fleet.server.roles | join(':fleet-') }}
        auth required pam_unix.so
        account required pam_unix.so
