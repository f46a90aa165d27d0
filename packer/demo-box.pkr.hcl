# The golden image from nothing: each stage is a salt-call of this checkout, so that the same build works
# stage by stage without Packer, too. Packer 1.6.6 and later.
#
# It is built as a file of its own (`packer build packer/demo-box.pkr.hcl`) and needs no plugin: loaded with the rest of
# the folder, today's Packer would ask for vm's, whichever source is meant.

variable "target" {
  type        = string
  description = "A name in pillar/targets/."
  default     = "debian-12"
}

variable "locked" {
  type        = string
  description = "1: exactly what the lock names, or an error; 0: what nobody serves any more is resolved anew."
  default     = "0"
}

locals {
  salt_call = "exec .venv/bin/salt-call --out-file=/dev/null"
  on        = "target=${var.target}"
}

# no machine and no communicator: the tree is made in namespaces of this machine
source "null" "rootfs" {
  communicator = "none"
}

build {
  sources = ["source.null.rootfs"]

  provisioner "shell-local" {
    inline = ["${local.salt_call} image.preflight ${local.on} locked=${var.locked}"]
  }
  provisioner "shell-local" {
    inline = ["${local.salt_call} image.fetch ${local.on} locked=${var.locked}"]
  }
  provisioner "shell-local" {
    inline = ["${local.salt_call} image.tools ${local.on}"]
  }
  provisioner "shell-local" {
    inline = ["${local.salt_call} image.layer root ${local.on}"]
  }
  provisioner "shell-local" {
    inline = ["${local.salt_call} image.layer base ${local.on}"]
  }
  provisioner "shell-local" {
    inline = ["${local.salt_call} image.layer driver ${local.on}"]
  }
  provisioner "shell-local" {
    inline = ["${local.salt_call} image.layer runtime ${local.on}"]
  }
  provisioner "shell-local" {
    inline = ["${local.salt_call} image.layer frameworks ${local.on}"]
  }
  provisioner "shell-local" {
    inline = ["${local.salt_call} image.layer validation ${local.on}"]
  }
  provisioner "shell-local" {
    inline = ["${local.salt_call} image.disk ${local.on}"]
  }
  provisioner "shell-local" {
    inline = ["${local.salt_call} image.prove ${local.on}"]
  }
}
