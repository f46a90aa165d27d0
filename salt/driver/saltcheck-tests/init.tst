{% set driver = pillar.driver %}
{% for module in driver.blocked %}
{{ module }} is blocked:
  module_and_function: file.search
  args: [/etc/modprobe.d/vault-cube-driver.conf, '^install {{ module }} /bin/false$']
  kwargs: {multiline: True}
  assertion: assertTrue
{% endfor %}
{% for module in driver.load %}
{{ module }} is loaded at boot:
  module_and_function: file.search
  args: [/etc/modules-load.d/vault-cube-driver.conf, '^{{ module }}$']
  kwargs: {multiline: True}
  assertion: assertTrue
{% endfor %}
NVIDIA's repository is an apt source only with provider nvidia:
  module_and_function: file.find
  args: [/etc/apt/sources.list.d]
  kwargs: {name: '*nvidia*cuda*'}
  {%- if driver.provider == 'nvidia' %}
  assertion: assertNotEmpty
  {%- else %}
  assertion: assertEmpty
  {%- endif %}
