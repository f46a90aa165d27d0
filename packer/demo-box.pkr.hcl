# Builds the golden image. Each stage is a salt-call in this checkout, so the same build also works without Packer.
# Needs Packer 1.6.6 or later.
#
# Build only this file (`packer build packer/demo-box.pkr.hcl`), which needs no plugin. If the whole folder is loaded,
# recent versions of Packer require the plugin of the source vm, even for another source.

variable "target" {
  type        = string
  description = "A name in pillar/targets/."
  default     = "debian-12"
}

variable "locked" {
  type        = string
  description = "1: fail if a locked file is no longer available; 0: re-resolve it for this build."
  default     = "0"
}

locals {
  salt_call = "exec .venv/bin/salt-call --out-file=/dev/null"
  on        = "target=${var.target}"
}

# no communicator: the stages run on this machine, in namespaces
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
