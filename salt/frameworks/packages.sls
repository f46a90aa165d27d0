libraries and compilers that the frameworks need are installed:
  pkg.installed:
    - pkgs: {{ pillar.frameworks.packages | json }}
    - install_recommends: False
