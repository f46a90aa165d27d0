{% from 'base/paths.jinja' import salt_environment %}

# uv and Salt are installed with the root tree, in Salt's own environment
{% for command in ('uv', 'salt-call') %}
{{ command }} is on the path:
  file.symlink:
    - name: /usr/local/bin/{{ command }}
    - target: {{ salt_environment }}/bin/{{ command }}
    # also in the place of a file
    - force: True
{% endfor %}
