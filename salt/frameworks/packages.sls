libraries that the frameworks load are installed:
  pkg.installed:
    - pkgs: {{ pillar.frameworks.packages | json }}
    - install_recommends: False
