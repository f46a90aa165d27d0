# Variables of the sources vm and bare_metal, in addition to those of demo-box.pkr.hcl. Set them with
# `packer build -var NAME=VALUE`, or in a file with -var-file.

# applying a layer also applies the layers below it
variable "layers" {
  type        = list(string)
  description = "The layers that vm and bare_metal apply, in order."
  default     = ["validation"]
}

variable "ssh_user" {
  type        = string
  description = "A user of the pillar who may use sudo without a password."
  default     = "vaultadmin"
}

variable "ssh_key" {
  type        = string
  description = "File of the private ssh key; empty to use the ssh agent."
  default     = ""
}

# ---- vm

variable "vm_image" {
  type        = string
  description = "The qcow2 image that vm boots; it is not changed."
  default     = "build/vm/base.qcow2"
}

variable "vm_seed" {
  type        = string
  description = "Folder with meta-data and user-data, which becomes the guest's CIDATA disk."
  default     = "build/vm/seed"
}

variable "vm_work" {
  type        = string
  description = "Existing folder with the firmware's variables, for the log of the serial console."
  default     = "build/vm"
}

variable "vm_qemu" {
  type        = string
  description = "QEMU's program, a name or a path."
  default     = "qemu-system-x86_64"
}

variable "vm_firmware" {
  type        = string
  description = "OVMF's code file; a copy of its variables is in vm_work."
  default     = "/usr/share/OVMF/OVMF_CODE_4M.fd"
}

variable "vm_accelerator" {
  type        = string
  description = "kvm or tcg."
  default     = "tcg"
}

variable "vm_memory_mib" {
  type        = number
  description = "Memory of the guest, MiB."
  default     = 4096
}

variable "vm_cpus" {
  type        = number
  description = "Number of processors of the guest."
  default     = 2
}

variable "vm_ssh_port" {
  type        = number
  description = "Port of the guest's sshd."
  default     = 22
}

variable "vm_disk_size" {
  type        = string
  description = "Size of the guest's disk; the root file system grows to it."
  default     = "16G"
}

variable "vm_output" {
  type        = string
  description = "Folder for the changed disk; it must not exist."
  default     = "build/vm/output"
}

# ---- bare_metal

variable "host" {
  type        = string
  description = "bare_metal: host name or address of the machine."
  default     = "name-it-with-var-host.invalid"
}

variable "host_port" {
  type        = number
  description = "bare_metal: ssh port of the machine."
  default     = 22
}
