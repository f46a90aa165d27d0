"""The GPUs: readings of NVIDIA's driver, and checks of them. No other folder of this project calls NVML.

NVML may be missing, give wrong values, hang or crash, so it is only ever called in a child process with a time limit::

    from vault_cube.gpu.nvml.session import Session
    from vault_cube.gpu.read.facts import facts
    from vault_cube.gpu.read.readings import readings
    from vault_cube.gpu.read.events import xids

    with Session(answer_s=5) as gpus:    # opens nothing yet, and never raises
        inventory = facts(gpus)          # the grain `gpu`; inventory["problem"] names what does not answer
        now = readings(gpus)             # what each GPU does now, one `Card` per GPU; any number of times per session
        new = xids(gpus)                 # Xids since the last call: [{"index", "xid", "means", "todo"}]

=============== =====================================================================================================
nvml.session    `Session`: `problem()`, `ask(question)`, `each(question)`, `simulated`; time limits and retries
fields          the types of all readings
nvml.child      the process that calls NVML: forked, killed if it hangs, replaced at the next question
nvml.device     runs in the child: `Nvml`, `Device.ask("nvmlDeviceGetName")` → value, or None with the reason; a GPU
                that answers nothing useful has a `problem`
nvml.plausible  drops values that cannot be true, for every reading
nvml.failures   `Problem(kind, reason, todo)`: all ways in which NVML fails; `NvmlProblem` is the exception
read.facts      `facts`: identity and versions
read.readings   `readings`: utilisation, memory, power, temperature, clocks, throttle reasons, PCIe, processes
read.throttle   names and weights of the throttle reasons' bits
read.sampling   `throttle_masks`: throttle reasons sampled over a time window
read.xid        meaning of each Xid code, and what to do
read.events     `xids`: Xids that the driver reported since the last call; `logged`: Xids in the kernel's log
read.host       facts from the kernel without NVML: modules, PCI, IOMMU, Secure Boot; takes the root directory to read
read.topology   links, NUMA nodes, processors near a GPU, P2P, the transport that NCCL will use
read.detail     `details`: everything NVML reports about each GPU, for gpu.detect and gpu.health
read.kernel_log the kernel's log of this boot and the previous one, and its Xids
read.xid_memory this boot's Xids from one run of the exporter to the next
read.load       the PCIe links under load; read.copying is the program that makes the load
health          `health(session, settings)`: one small check per question, as a `verdicts.Report`
health.validate the checks of health that compare a GPU with the pillar
show            tables and the live monitor
watch           `Watch`: Xids, losses and returns since the last call, for the beacon
cdi             the CDI specification of the installed driver
reset           `reset`: resets a GPU, with the services that keep it open stopped
verbs           the functions behind `_modules/gpu.py`
=============== =====================================================================================================

A field that a device lacks is absent, never 0. `problem` of a card describes in one line why it did not answer;
`errors` names the functions that failed while others worked, `implausible` those whose value was dropped. All results
that come from the fake library of a test have `simulated: True`. Importing `pynvml` takes about 40 ms: this happens in
the child, and only if there is a driver. The caller loads no library of NVIDIA.
"""
