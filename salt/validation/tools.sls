tools to look at a box are installed:
  pkg.installed:
    - pkgs: {{ pillar.validation.packages | json }}
    - install_recommends: False
