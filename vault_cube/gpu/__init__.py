"""What NVIDIA's driver says of the GPUs, and whether they are fit. The one home of NVML in this project.

NVML may be missing, lie, hang or crash, so it is only ever called in a child process with a time limit::

    from vault_cube.gpu.nvml.session import Session
    from vault_cube.gpu.read.facts import facts
    from vault_cube.gpu.read.readings import readings
    from vault_cube.gpu.read.events import xids

    with Session(answer_s=10) as gpus:   # nothing is opened yet, and nothing is raised by opening later
        found = facts(gpus)              # what there is: the grain `gpu`; found["problem"] says why it is empty
        now = readings(gpus)             # what each GPU does now, one dict a GPU; again and again in one session
        told = xids(gpus)                # XIDs since the last call: [{"index", "xid", "means", "todo"}]

=============== =====================================================================================================
nvml.session    `Session`: `problem()`, `ask(question)`, `each(question)`, `simulated`; a child that hung or died is
                ended, and replaced at the next question
nvml.failures   `Problem(kind, said, todo)`: every way in which NVML fails; `NvmlProblem` is the exception
nvml.device     runs in the child: `Nvml`, `Device.ask("nvmlDeviceGetName")` → value, or None with the reason
read.facts      `facts`: identity and versions
read.readings   `readings`: utilisation, memory, power, temperature, clocks, throttle reasons, PCIe, processes
read.throttle   names and weights of the throttle reasons' bits
read.sampling   `throttle_masks`: throttle reasons sampled over a time window
read.xid        meaning of each Xid code, and what to do
read.events     `xids`: Xids since the last call; `logged`: Xids in the kernel's log
read.host       facts from the kernel without NVML: modules, PCI, IOMMU, Secure Boot; takes the root directory to read
read.topology   links, NUMA nodes, processors near a GPU, P2P, the transport that NCCL will use
read.detail     `details`: everything NVML reports about each GPU, for gpu.detect and gpu.health
read.kernel_log the kernel's log of this boot, and its Xids
health          `health(gpus, pillar)`: one small check per question → {"verdict", "counts", "checks": [{"check",
                "gpu" (absent: the box), "verdict", "evidence", "todo"}]}; verdicts "ok", "warning", "fault",
                "not applicable"
health.validate the checks of health that compare a GPU with the pillar, as layer.check's verdicts
show            tables and the live monitor
verbs           the functions behind `_modules/gpu.py`
=============== =====================================================================================================

A field that a device lacks is absent, never 0. `problem` in a device's dict says in one line why it did not answer;
`errors` names the functions that failed while the rest went on. All that was read from a test's library, not from
NVIDIA's, says `simulated: True`. Importing `pynvml` costs some 40 ms: it happens in the child, and only where there is
a driver.
"""
