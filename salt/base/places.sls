# Before all other states. With failhard, a full or read-only disk gives one message instead of one per state
files can be read and written:
  places.usable:
    - order: 1
    - folders: [/etc, /usr, /var/lib, /opt]
    - failhard: True

# This state knows from the run itself which files the others write
no file or folder of a state is locked, replaced or open to others:
  places.plain:
    - order: 2
    - paths: [/etc/passwd, /etc/group, /etc/shadow, /etc/gshadow]
    # systemd-tmpfiles gives the group adm access (tmpfiles.d/systemd.conf)
    - with_acls: [/var/log/journal]
    # Debian 13's is a link to /etc/locale.conf
    - links: [/etc/default/locale]
