"""List, check, watch and reset the GPUs, and measure them with benchmarks and burn-in."""

from pathlib import Path


def detect():
    """
    Show all readings of each GPU: identity, memory, links, power, clocks, temperatures, errors.

    Exit code 1 if the target has GPUs and one of them does not answer.

    Returns a table; with --out=json or --out=yaml the fields of the grain ``gpu``, and for each device all fields of
    ``Card`` in vault_cube/gpu/fields.py.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.detect
        salt-call --local --out=json gpu.detect
    """
    return _answer("detect")


def topology():
    """
    Show how the GPUs reach each other and the processor: links, NUMA nodes, P2P, and the transport of NCCL.

    Returns a matrix; with --out=json or --out=yaml gpus, links, legend, nccl.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.topology
    """
    return _answer("topology")


def health(load=False, window_s=None):
    """
    Check whether the GPUs are fit: each check with verdict, evidence and what to do.

    Exit code 0 if all is ok, 1 with a warning, 2 with a fault. Thresholds: pillar ``gpu:health``; verdicts that are
    accepted on this box: ``gpu:health:accepted``. The grain ``gpu_health`` shows the last result.

    load
        keep the PCIe links busy, to measure them at full speed; takes some seconds

    window_s
        time over which throttle reasons are sampled, in seconds; default: pillar ``gpu:health:window_s``

    Returns a table; with --out=json or --out=yaml subject (the GPUs), verdict, counts, started and checks (check, gpu,
    status, evidence, todo).

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.health
        salt-call --local --out=json gpu.health load=True window_s=10
    """
    return _answer("health", load=load, window_s=window_s, cache=Path(__opts__["cachedir"]))


def monitor(once=False, every_s=1):
    """
    Show what the GPUs do: load, memory, temperature, power, throttle reasons, processes; until q or Ctrl-C.

    Colours follow the alerts' thresholds, pillar ``validation:monitoring:alerts``.

    once
        show one view and exit, for scripts; always so without a terminal

    every_s
        time between two readings, in seconds

    Returns the last view; with --out=json or --out=yaml one view's fields: gpus (as in
    vault_cube.gpu.read.readings), processes, problem.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.monitor
        salt-call --local --out=json gpu.monitor once=True
    """
    import sys

    from vault_cube import terminal

    lives = not once and terminal.for_a_person(__opts__) and sys.stdout.isatty()
    return _answer("monitor", every_s=float(every_s) if lives else None)


def validate(load=True):
    """
    Compare the GPUs with the pillar: count, model, memory, driver, links, power cap, modes.

    Exit code 0 if the GPUs are as expected, 1 with a warning, 2 with a fault. Pillar: ``driver:gates``, ``driver``,
    ``gpu``.

    load
        keep the PCIe links busy, to measure them at full speed; an idle link lowers its speed

    Returns a table; with --out=json or --out=yaml the fields of ``gpu.health``.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.validate
    """
    return _answer("validate", load=load)


def reset(index, test=False):
    """
    Reset one GPU: stop the services that hold the GPUs (pillar ``gpu:reset:stop``), reset it, start them again.

    ``nvidia-smi --gpu-reset`` alone fails while the persistence daemon, the exporter or the beacon keep the GPU
    open. Fails if a program uses it. A GPU that cannot be reset by itself (many with a display, or with NVLink) needs
    a reboot.

    index
        number of the GPU, as ``gpu.detect`` shows it

    test
        return the commands, and run none

    Returns gpu, commands, reset (whether it worked), message (the last line of nvidia-smi).

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.reset 2 test=True
        salt-call --local gpu.reset 2
    """
    from salt.exceptions import CommandExecutionError

    if not str(index).isdigit():
        raise CommandExecutionError(f"gpu.reset: {index} is not the number of a GPU: `gpu.detect` lists them")
    return _answer("reset", index=int(index), test=bool(test))


def benchmark(suite=None, quick=False, force=False, boxes=None, rendezvous=None):
    """
    Measure the box, judge each card and the box by the pillar, and publish the grain ``gpu_benchmark``.

    Suites: ``matmul``, ``copies`` (memory, PCIe, between GPUs), ``all_reduce``, ``ddp`` (training and its scaling),
    ``tensorflow``, ``vllm`` (through its server). Each card is compared with the vendor's figures (pillar
    ``benchmark:ceilings``) and with the other cards of its model. Exit code 0 if all verdicts are ok or not applicable,
    1 if one is uncertain, such as for a card without published figures, 2 with a fault.

    suite
        name of a suite, or several separated by commas; default: all of pillar ``benchmark:suites``

    quick
        measure for a shorter time: minutes on a CPU, less than an hour with four GPUs

    force
        measure busy or throttled GPUs as well; the result records it

    boxes
        number of boxes that train together in the suite ddp, on each of which the same command has to run; the box at
        the rendezvous listens on pillar ``benchmark:together:port``. Nobody is asked for a password: only in a network
        where every machine is trusted. The grain keeps the result of this box alone

    rendezvous
        name or IPv4 address of one of these boxes, in the network that they share

    Returns a table of the verdicts; with --out=json or --out=yaml verdict, verdicts, bad, suites, numbers (medians with
    their 95 % intervals) and the file of the whole result.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.benchmark
        salt-call --local gpu.benchmark ddp quick=True
        salt-call --local gpu.benchmark ddp boxes=2 rendezvous=192.0.2.11
    """
    from vault_cube.bench import verbs

    return _answer(
        verbs.benchmark, suite, cache=__opts__["cachedir"], quick=quick, force=force, boxes=boxes, rendezvous=rendezvous
    )


def benchmark_compare(a="previous", b="last"):
    """
    Compare two results: which numbers changed by more than noise (permutation test). Exit code 1 if one is slower.

    a, b
        names of results, paths, ``last`` or ``previous``

    Returns differences in machine and software, and for each number both medians, their ratio, p, and ``faster``,
    ``slower`` or ``noise``.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.benchmark_compare previous last
    """
    from vault_cube.bench import verbs

    return _answer(verbs.compare, a, b)


def stress(duration=None, resume=False, abandon=False, background=None):
    """
    Burn in all GPUs at the same time and check every result; without a GPU, the processor.

    Stops at the pillar's temperature, and does not start if a GPU gives none. Exit code 0 if the verdict is ok, 1 if it
    is uncertain, 2 with a fault.

    duration
        such as 60s, 5m or 24h

    resume
        continue the burn-in that a reboot or Ctrl-C interrupted

    abandon
        end that burn-in, and judge its samples

    background
        run as a systemd unit, through reboots; default: if longer than pillar ``benchmark:stress:background_s``

    Returns the verdict, with a verdict per card and per hour: work, wrong values, speed, clock, power, throttling,
    XIDs, ECC and PCIe errors; in the background, how to follow it.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.stress duration=60s
        salt-call --local gpu.stress duration=24h
    """
    from vault_cube.bench import verbs

    return _answer(verbs.stress, duration, resume=resume, abandon=abandon, background=background)


def report(result="last", burn="last", folder=None):
    """
    Write the report on a benchmark and a burn-in: one self-contained HTML file, and Markdown.

    result, burn
        names as ``gpu.benchmark`` and ``gpu.stress`` return them, or ``last``

    folder
        where to write; default: the folder of the results

    Returns the paths of both files.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.report folder=/tmp
    """
    from vault_cube.bench import verbs

    return _answer(verbs.report, result, burn, folder=folder)


def _answer(command, *args, **kwargs):
    """Run a command: a table for a person, the fields for a program, its exit code, and errors in one line.

    command: a function of the settings, or the name of one in vault_cube.gpu.verbs.
    """
    from salt.exceptions import CommandExecutionError

    from vault_cube import terminal
    from vault_cube.errors import VaultCubeError, shown
    from vault_cube.gpu import verbs
    from vault_cube.settings import PillarError, of_minion

    run = getattr(verbs, command) if isinstance(command, str) else command
    try:
        answer = run(of_minion(__pillar__), *args, **kwargs)
    except (VaultCubeError, PillarError) as err:
        raise CommandExecutionError(shown(err)) from err
    __context__["retcode"] = answer.exit_code
    return answer.text() if terminal.for_a_person(__opts__) else answer.document
