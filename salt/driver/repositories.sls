# the key comes by keyring.present, checked by its fingerprint
{% from 'driver/repository.jinja' import repository with context %}

{% for repo in pillar.driver.repositories %}
{{ repository('driver', repo) }}
{% else %}
driver needs no vendor repository:
  test.nop: []
{% endfor %}
