container toolkit is installed:
  pkg.installed:
    - pkgs: {{ pillar.runtime.packages | json }}
    - install_recommends: False
