include:
  - frameworks.packages

{% set frameworks = pillar.frameworks %}
{% set locks = opts.vault_cube.checkout ~ '/locks/' ~ pillar.target.name %}

the folder of the environments exists:
  file.directory:
    - name: {{ frameworks.folder }}
    - makedirs: True
    - user: root
    - group: root
    - mode: '0755'

{% set cache = frameworks.folder ~ '/.unpacked' %}
{% for name in frameworks.environments %}
{{ name }} environment matches its lock:
  uv.environment:
    - name: {{ frameworks.folder }}/{{ name }}
    - lock: {{ locks }}/python-{{ name }}.lock
    - python: /usr/bin/python{{ pillar.target.python }}
    - cache: {{ cache }}
    # ordered: the first environment owns a shared file, and later ones link to it
    - share_with: {{ frameworks.environments.keys() | map('regex_replace', '^', frameworks.folder ~ '/') | list | json }}
    - index: {{ pillar.archive.wheel_index | json }}
    - extra_indexes: {{ pillar.archive.extra_wheel_indexes | json }}
    - supplies: {{ pillar.base.supplies | json }}
    - require:
      - file: the folder of the environments exists
{% endfor %}

# No requisite, so that the folder is also removed if an environment failed
uv's unpacked wheels are removed:
  file.absent:
    - name: {{ cache }}
