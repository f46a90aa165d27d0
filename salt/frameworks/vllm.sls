{% set frameworks = pillar.frameworks %}
{% set vllm = frameworks.vllm %}

{% if vllm.environment %}
vLLM runs as a user of its own:
  group.present:
    - name: {{ vllm.user | json }}
    - gid: {{ vllm.uid }}
    - system: True
  user.present:
    - name: {{ vllm.user | json }}
    - uid: {{ vllm.uid }}
    - gid: {{ vllm.uid }}
    - system: True
    - home: /var/lib/vault-cube/vllm
    - createhome: False
    - shell: /usr/sbin/nologin
    - require:
      - group: vLLM runs as a user of its own

models have a folder:
  file.directory:
    - name: {{ vllm.models | json }}
    - makedirs: True
    - user: root
    # an id, because under test=True Salt warns about a group name that an earlier state would create
    - group: {{ vllm.uid }}
    - mode: '0755'
    - require:
      - user: vLLM runs as a user of its own

vLLM is a service:
  file.managed:
    - name: /etc/systemd/system/vault-cube-vllm@.service
    - source: salt://frameworks/files/vllm.service
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'

vLLM replicas start together:
  file.managed:
    - name: /etc/systemd/system/vault-cube-vllm.target
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/frameworks/vllm.sls
        [Unit]
        Description=vLLM, {{ vllm.replicas }} replica(s) of {{ vllm.model }}
        Wants={% for n in range(vllm.replicas) %}vault-cube-vllm@{{ n }}.service {% endfor %}

        [Install]
        WantedBy=multi-user.target

{% for n in range(vllm.replicas) %}
vLLM replica {{ n }} has its port:
  file.managed:
    - name: /etc/vault-cube/vllm/{{ n }}.env
    - makedirs: True
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        VAULT_CUBE_PORT={{ vllm.port + n }}
    {%- if pillar.target.accelerator == 'nvidia' %}
        CUDA_VISIBLE_DEVICES={{ n }}
    {%- endif %}
{% endfor %}

vLLM {{ 'starts at boot' if vllm.enabled else 'waits for a model' }}:
  unit.{{ 'enabled' if vllm.enabled else 'disabled' }}:
    - name: vault-cube-vllm.target
    - require:
      - file: vLLM is a service
      - file: vLLM replicas start together
{% else %}
vLLM is not on this target:
  test.nop: []
{% endif %}
