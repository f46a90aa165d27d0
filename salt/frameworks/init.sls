# Layer 4: one Python environment per framework, their commands, and the vLLM service.
include:
  - runtime
  - frameworks.packages
  - frameworks.environments
  - frameworks.commands
  - frameworks.kernels
  - frameworks.vllm
