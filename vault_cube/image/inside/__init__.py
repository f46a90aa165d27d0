"""Work inside an image: run commands in its tree, or apply layers in a guest with Packer."""
