"""Tables of the drivers that CUDA toolkits and GPU generations need, for the schema and for gpu.health."""

# CUDA toolkit → oldest Linux driver branch that runs its programs (minor version compatibility within one major).
# Source: NVIDIA, CUDA Toolkit Release Notes, table "CUDA Toolkit and Corresponding Driver Versions" and
# CUDA Compatibility guide, "Minor Version Compatibility": 11.x >= 450, 12.x >= 525, 13.x >= 580.
CUDA_NEEDS = {11: 450, 12: 525, 13: 580}
# cuDNN by CUDA major. Source: NVIDIA, cuDNN support matrix: 9.x is built for CUDA 12 and, from 9.12, for CUDA 13.
CUDNN_FOR_CUDA_13 = (9, 12)
# GPU generation → oldest driver branch. Source: NVIDIA driver release notes, "supported products";
# Blackwell GeForce came with 570 and runs on the open kernel modules only.
GENERATION_NEEDS = {"turing": 418, "ampere": 450, "ada": 525, "hopper": 525, "blackwell": 570}
OPEN_ONLY = {"blackwell"}
# driver branch → newest CUDA release whose PTX it compiles; a branch between two of these counts as the older one.
# Minor version compatibility covers machine code only: a driver of CUDA 13.0 runs machine code that 13.5 compiled for
# its GPU, but rejects PTX of 13.1 and later ("the provided PTX was compiled with an unsupported toolchain").
# Source: NVIDIA, PTX ISA, "Release Notes", table of PTX ISA versions with their CUDA release and driver branch; CUDA
# 12.5 and 12.6 have the same PTX version, 8.5.
PTX_OF_DRIVER = {
    450: (11, 0), 455: (11, 1), 460: (11, 2), 465: (11, 3), 470: (11, 4), 495: (11, 5), 510: (11, 6), 515: (11, 7),
    520: (11, 8), 525: (12, 0), 530: (12, 1), 535: (12, 2), 545: (12, 3), 550: (12, 4), 555: (12, 6), 560: (12, 6),
    565: (12, 7), 570: (12, 8), 575: (12, 9), 580: (13, 0), 590: (13, 1), 595: (13, 2), 610: (13, 3),
}  # fmt: skip
# wheel → GPU generation → CUDA release of the PTX that the wheel contains in place of machine code for that GPU.
# Read from the wheels' fat binaries: TensorFlow 2.21.0's generated kernels have machine code for sm_60, 70, 80 and 89
# and PTX 8.5 for sm_90; the FlashAttention 2 of vLLM 0.32.0 has machine code for sm_80 and PTX 9.0.
PTX_OF_WHEEL = {
    ("tensorflow", "2.21.0"): {"hopper": (12, 5), "blackwell": (12, 5)},
    ("vllm", "0.32.0"): {"blackwell": (13, 0)},
}
# GPU generation → architecture that nvcc compiles for on a machine without a GPU.
# Source: NVIDIA, "CUDA GPU Compute Capability"; the lowest of each generation, 12.0 for Blackwell's workstation cards.
ARCHITECTURE = {"turing": "sm_75", "ampere": "sm_80", "ada": "sm_89", "hopper": "sm_90", "blackwell": "sm_120"}
