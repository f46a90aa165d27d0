include:
  - frameworks.packages

{% set frameworks = pillar.frameworks %}
{% set locks = opts.vault_cube.checkout ~ '/locks/' ~ pillar.target.name %}

environments have a home:
  file.directory:
    - name: {{ frameworks.folder }}
    - makedirs: True
    - mode: '0755'

{% set cache = frameworks.folder ~ '/.unpacked' %}
{% for name in frameworks.environments %}
{{ name }} environment is what its lock says:
  uv.environment:
    - name: {{ frameworks.folder }}/{{ name }}
    - lock: {{ locks }}/python-{{ name }}.lock
    - python: /usr/bin/python{{ pillar.target.python }}
    - cache: {{ cache }}
    # in order, so that the first one owns a file and the later ones link to it
    - share_with: {{ frameworks.environments.keys() | map('regex_replace', '^', frameworks.folder ~ '/') | list | json }}
    - index: {{ pillar.archive.wheel_index | json }}
    - extra_indexes: {{ pillar.archive.extra_wheel_indexes | json }}
    - require:
      - file: environments have a home
      - sls: frameworks.packages
  {%- if not loop.first %}
      - uv: {{ loop.previtem }} environment is what its lock says
  {%- endif %}
{% endfor %}

# also after an environment that could not be made: it is worth no disk
nothing that uv unpacked is kept:
  file.absent:
    - name: {{ cache }}
