{% set frameworks = pillar.frameworks %}

{% for command, words in frameworks.commands.items() %}
{{ command }} is a command:
  file.managed:
    - name: /usr/local/bin/{{ command }}
    - user: root
    - group: root
    - mode: '0755'
    - contents: |
        #!/bin/sh
        # written by salt/frameworks/commands.sls
        exec {{ frameworks.folder }}/{{ words[0] }}/bin/{{ words[1:] | join(' ') }} "$@"
{% else %}
this target has no framework commands:
  test.nop: []
{% endfor %}
