{% set manifest = pillar.validation.manifest %}

the box records which image it came from:
  file.serialize:
    - name: {{ manifest }}
    - dataset:
        name: {{ pillar.image.name }}
        version: {{ pillar.image.version | json }}
        target: {{ pillar.target.name }}
    - serializer: json
    - makedirs: True
    - mode: '0644'
