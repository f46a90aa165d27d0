"""What NVIDIA's driver says of the GPUs, and whether they are fit. The one home of NVML in this project.

NVML may be missing, give wrong values, hang or crash, so it is only ever called in a child process with a time limit::

    from vault_cube.gpu.session import Session
    from vault_cube.gpu.facts import facts
    from vault_cube.gpu.readings import readings
    from vault_cube.gpu.events import xids

    with Session(answer_s=5) as gpus:    # nothing is opened yet, and nothing is raised by opening later
        found = facts(gpus)              # what there is: the grain `gpu`; found["problem"] says what does not answer
        now = readings(gpus)             # what each GPU does now, one dict per GPU; again and again in one session
        new = xids(gpus)                 # XIDs since the last call: [{"index", "xid", "means", "todo"}]

========== ==========================================================================================================
session    `Session`: `problem()`, `ask(question)`, `each(question)`, `simulated`; time limits and retries
child      the process that asks: forked, killed if it hangs, replaced at the next question
nvml       in the child: `Nvml`, `Device.ask("nvmlDeviceGetName")` → value, or None with the reason kept; a GPU that
           answers nothing useful has a `problem`
plausible  drops values that cannot be true, for every reading
failures   `Problem(kind, said, todo)`: every way in which NVML fails, in words; `NvmlProblem` is the exception
facts      `facts`: identity and versions
readings   `readings`: utilisation, memory, power, temperature, clocks, throttle reasons, PCIe, processes
throttle   names and weight of the throttle reasons' bits
sampling   `throttle_masks`: the reasons sampled over a while
xid        meaning of each XID code, and what to do
events     `xids`: those that the driver reported since the last call; `logged`: those in the kernel's log
watch      `Watch`: XIDs, losses and returns since the last look, for the beacon
host       what the kernel says without NVML: modules, PCI, IOMMU, Secure Boot; takes the root to look below
topology   links, NUMA nodes, processors near a GPU, P2P, what NCCL will use
detail     `details`: all that NVML says of each GPU, for gpu.detect and gpu.health
kernel_log the kernel's log of this boot and the one before, and its XIDs
xid_memory this boot's XIDs from one run of the exporter to the next
health     `health(gpus, pillar)`: a small check per question → {"verdict", "counts", "checks": [{"check", "gpu"
           (absent: the box), "verdict", "evidence", "todo"}]}; verdicts "ok", "warning", "fault", "not applicable"
validate   the checks of health that hold a GPU against the pillar's expectation, as layer.check's verdicts
load       the PCIe links under load; copying: the program that puts it on
reset      `reset`: a GPU's reset, with the services that hold it stopped
verbs      what `_modules/gpu.py` calls; tables: what it shows a person
========== ==========================================================================================================

A field that a device lacks is absent, never 0. `problem` in a device's dict says in one line why it did not answer;
`errors` names the functions that failed while the rest went on, `implausible` those whose value was dropped. All that
was read from a test's library, not from NVIDIA's, says `simulated: True`. Importing `pynvml` costs some 40 ms: it
happens in the child, and only if there is a driver. No library of NVIDIA's is loaded in the caller.
"""
