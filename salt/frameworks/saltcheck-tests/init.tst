{% set vllm = pillar.frameworks.vllm %}
the folder of the environments exists:
  module_and_function: file.directory_exists
  args: [{{ pillar.frameworks.folder }}]
  assertion: assertTrue
{% if vllm.environment %}
vLLM cannot log in:
  module_and_function: user.info
  args: [{{ vllm.user }}]
  assertion: assertEqual
  assertion_section: shell
  expected_return: /usr/sbin/nologin
vLLM listens on loopback only:
  module_and_function: file.search
  args: [/etc/systemd/system/vault-cube-vllm@.service, '--host 127\.']
  assertion: assertTrue
{% endif %}
