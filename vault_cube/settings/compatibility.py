"""Which driver a CUDA toolkit and a GPU generation need. Plain tables: the schema and gpu.health both judge by them."""

# CUDA toolkit -> oldest Linux driver branch that runs what it compiles (minor version compatibility inside one major).
# Source: NVIDIA, CUDA Toolkit Release Notes, table "CUDA Toolkit and Corresponding Driver Versions" and
# CUDA Compatibility guide, "Minor Version Compatibility": 11.x >= 450, 12.x >= 525, 13.x >= 580.
CUDA_NEEDS = {11: 450, 12: 525, 13: 580}
# cuDNN by CUDA major. Source: NVIDIA, cuDNN support matrix: 9.x is built for CUDA 12 and, from 9.12, for CUDA 13.
CUDNN_FOR_CUDA_13 = (9, 12)
# GPU generation -> oldest driver branch. Source: NVIDIA driver release notes, "supported products";
# Blackwell GeForce came with 570 and runs on the open kernel modules only.
GENERATION_NEEDS = {"turing": 418, "ampere": 450, "ada": 525, "hopper": 525, "blackwell": 570}
OPEN_ONLY = {"blackwell"}
