{% set manifest = pillar.validation.manifest %}

the box records which image it came from:
  file.serialize:
    - name: {{ manifest | json }}
    - dataset:
        name: {{ pillar.image.name | json }}
        version: {{ pillar.image.version | json }}
        target: {{ pillar.target.name | json }}
    - serializer: json
    - makedirs: True
    - user: root
    - group: root
    - mode: '0644'
