# What the sources vm and bare_metal take from the command line, beside demo-box.pkr.hcl's: `packer build -var NAME=VALUE`,
# or a file with -var-file.

# what `vm` and `bare_metal` apply; each layer brings the layers below it
variable "layers" {
  type        = list(string)
  description = "The layers that vm and bare_metal apply, in order."
  default     = ["validation"]
}

variable "ssh_user" {
  type        = string
  description = "The pillar's user, who may use sudo without a password."
  default     = "vaultadmin"
}

variable "ssh_key" {
  type        = string
  description = "File of the private key that opens the machine; empty: the ssh agent has it."
  default     = ""
}

# ---- vm

variable "vm_image" {
  type        = string
  description = "The qcow2 that vm boots; it is not changed."
  default     = "build/vm/base.qcow2"
}

variable "vm_seed" {
  type        = string
  description = "The folder that the guest sees as its CIDATA disk: meta-data and user-data."
  default     = "build/vm/seed"
}

variable "vm_work" {
  type        = string
  description = "An existing folder for the firmware's variables and the serial console's log."
  default     = "build/vm"
}

variable "vm_qemu" {
  type        = string
  description = "QEMU's program."
  default     = "qemu-system-x86_64"
}

variable "vm_firmware" {
  type        = string
  description = "OVMF's code; its variables are a copy in vm_work."
  default     = "/usr/share/OVMF/OVMF_CODE_4M.fd"
}

variable "vm_accelerator" {
  type        = string
  description = "kvm or tcg."
  default     = "tcg"
}

variable "vm_memory_mib" {
  type        = number
  description = "The guest's memory, MiB."
  default     = 4096
}

variable "vm_cpus" {
  type        = number
  description = "The guest's processors."
  default     = 2
}

variable "vm_ssh_port" {
  type        = number
  description = "Where the guest's sshd listens."
  default     = 22
}

variable "vm_disk_size" {
  type        = string
  description = "The guest's disk; the root file system grows into it."
  default     = "16G"
}

variable "vm_output" {
  type        = string
  description = "The folder that the changed disk is left in; it must not exist."
  default     = "build/vm/output"
}

# ---- bare_metal

variable "host" {
  type        = string
  description = "bare_metal: the machine's name or address."
  default     = "name-it-with-var-host.invalid"
}

variable "host_port" {
  type        = number
  description = "bare_metal: the machine's ssh port."
  default     = 22
}
