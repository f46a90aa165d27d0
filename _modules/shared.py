"""Read files that the states share with the box's owner."""

from pathlib import Path

from vault_cube import shared_files


def other_rules(path, ports):
    """
    Return the rules in a file of ufw that the box's owner has made.

    path
        /etc/ufw/user.rules or /etc/ufw/user6.rules
    ports
        the pillar's ports

    Returns a list of texts; empty if the file is missing or damaged.

    CLI Example:

    .. code-block:: bash

        salt-call --local shared.other_rules /etc/ufw/user.rules '[22]'
    """
    try:
        return shared_files.other_rules(Path(path).read_text(errors="replace"), ports)
    except OSError:
        return []
