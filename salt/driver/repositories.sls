# keyring.present installs the repository's key and checks its fingerprint
{% from 'driver/repository.jinja' import repository with context %}

{% for repo in pillar.driver.repositories %}
{{ repository('driver', repo) }}
{% else %}
driver needs no vendor repository:
  test.nop: []
{% endfor %}
