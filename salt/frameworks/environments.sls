frameworks have a home:
  file.directory:
    - name: {{ pillar.frameworks.folder }}
    - makedirs: True
    - mode: '0755'
