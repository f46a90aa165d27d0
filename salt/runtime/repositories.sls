# keyring.present installs the repository's key and checks its fingerprint
{% from 'driver/repository.jinja' import repository with context %}

{% for repo in pillar.runtime.repositories %}
{{ repository('runtime', repo) }}
{% else %}
runtime needs no vendor repository:
  test.nop: []
{% endfor %}
