{% set base = pillar.base %}
{% for name, user in base.users.items() %}
{{ name }} has its ids:
  module_and_function: user.info
  args: [{{ name }}]
  assertions:
    - {assertion: assertEqual, assertion_section: uid, expected_return: {{ user.uid }}}
    - {assertion: assertEqual, assertion_section: gid, expected_return: {{ user.gid }}}
{% endfor %}
the firewall is on at boot:
  module_and_function: file.search
  args: [/etc/ufw/ufw.conf, '^ENABLED=yes$']
  kwargs: {multiline: True}
  assertion: assertTrue
the root partition can grow:
  module_and_function: file.file_exists
  args: [/usr/bin/systemd-repart]
  assertion: assertTrue
