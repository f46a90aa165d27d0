"""The meaning of XIDs, which are the driver's numbers of GPU errors, and what to do about them.

Source: NVIDIA, "Analyzing Xid Errors with the Xid Catalog": code, description, immediate action
(docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html); for codes that are not in it, the driver's names
(open-gpu-kernel-modules 595.45.04, src/common/sdk/nvidia/inc/nverror.h). The descriptions are our own. A code that is
missing here is unused in both, or newer; it is a warning, because its meaning is unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from vault_cube.gpu.nvml import failures

Weight = Literal["info", "program", "warning", "fault"]
"""info: no action needed; program: a program failed, probably not because of the GPU; warning: the GPU works, and needs
attention; fault: the GPU must not be used until it has been repaired or reset."""

RESTART = "start the program again; if other programs cause it as well, burn the GPU in: gpu.stress"
RESET = f"{failures.RESET}; if it happens again, replace the card"
NOTHING = "nothing for this XID alone; look for other XIDs"
BUS = "power off and on; then reseat card, riser and power connector; if it happens in another slot, replace the card"
LINK = f"{failures.RESET}; if it happens again, check bridge, cables and connectors"
SUPPORT = "watch the GPU, burn it in (gpu.stress); if it happens again, ask the card's vendor"


@dataclass(frozen=True)
class Xid:
    """The meaning of one code."""

    weight: Weight
    means: str
    todo: str


def _group(codes: str, weight: Weight, means: str, todo: str) -> dict[int, Xid]:
    return {int(code): Xid(weight, means, todo) for code in codes.split()}


XIDS: dict[int, Xid] = {
    8: Xid("program", "a program's channel stopped: the GPU no longer processes it", RESTART),
    11: Xid("program", "a program sent an invalid command stream", RESTART),
    13: Xid("program", "exception in the graphics engine: mostly a program's illegal access or instruction", RESTART),
    25: Xid("program", "a program sent an illegal command stream", RESTART),
    31: Xid("program", "memory page fault: a program used an invalid address", RESTART),
    32: Xid("program", "a corrupted command stream reached the GPU", RESTART),
    **_group("37 38", "info", "an error in the driver's firmware", NOTHING),
    **_group("39 40 41 70 71 72 75 76 77 85", "program", "exception in a copy engine", RESTART),
    **_group(" ".join(map(str, range(126, 136))), "program", "exception in a copy engine", RESTART),
    43: Xid("program", "a program was stopped after its own error", NOTHING),
    44: Xid("info", "fault in the graphics engine during a context switch", NOTHING),
    45: Xid("program", "programs were removed after an earlier error", "look for the XID before it"),
    46: Xid("fault", "the GPU stopped processing", RESET),
    48: Xid("fault", "double bit ECC error: memory lost data", RESET),
    54: Xid("fault", "auxiliary power is not connected", "power off; plug the card's power in until it clicks"),
    60: Xid("program", "exception in the video processor", RESTART),
    62: Xid("fault", "the GPU's microcontroller stopped", RESET),
    63: Xid("info", "a row of memory was marked for remapping", "reset the GPU or reboot, to remap the row"),
    64: Xid("fault", "a row of memory could not be remapped", RESET),
    **_group("66 67", "info", "illegal access by the driver", NOTHING),
    **_group("68 83 84 88 89 96 97 98", "program", "exception in a video decoder", RESTART),
    69: Xid("program", "class error in the graphics engine: a program's illegal command", RESTART),
    74: Xid("fault", "NVLink error", LINK),
    78: Xid("fault", "a virtual GPU could not be started", "update the driver of host and guest to one branch"),
    79: Xid("fault", "the GPU has fallen off the bus", BUS),
    80: Xid("program", "data was corrupted on its way to the GPU", RESTART),
    **_group("82 99 100 101 102 103 104 105", "program", "error in a JPEG engine", RESTART),
    86: Xid("program", "exception in the optical flow engine", RESTART),
    92: Xid("info", "frequent single-bit ECC errors", "watch aggregate ECC; burn the GPU in: gpu.stress"),
    93: Xid("info", "frequent writes to the inforom", NOTHING),
    94: Xid("program", "contained memory error: the affected program was ended", RESTART),
    95: Xid("fault", "uncontained memory error: results of all programs on the GPU may be wrong", RESET),
    **_group("106 107", "info", "a test message", NOTHING),
    109: Xid("fault", "timeout of a context switch", RESET),
    110: Xid("fault", "security fault", RESET),
    119: Xid("fault", "the GPU's system processor (GSP) does not answer", RESET + "; a newer driver may help"),
    120: Xid("fault", "error in the GPU's system processor (GSP)", RESET + "; a newer driver may help"),
    121: Xid("info", "error on the chip-to-chip link, corrected", NOTHING),
    136: Xid("fault", "a link did not come up", LINK),
    137: Xid("program", "a program's illegal access over NVLink", RESTART),
    139: Xid("program", "exception in the optical flow engine", RESTART),
    140: Xid("fault", "unrecoverable ECC error", RESET),
    141: Xid("info", "error on CUDA's fast path", NOTHING),
    142: Xid("program", "exception in a video encoder", RESTART),
    143: Xid("fault", "the GPU did not initialise", RESET),
    **_group("144 145 146 147 148 149 150", "fault", "NVLink error", LINK),
    151: Xid("fault", "the keys of a confidential machine did not rotate", "restart the virtual machine"),
    **_group("152 153", "info", "error in the deep learning accelerator", NOTHING),
    154: Xid("info", "the driver changed its requested recovery action", "see the check `recovery`"),
    155: Xid("fault", "NVLink error, found by software", LINK),
    156: Xid("fault", "a resource was retired", RESET),
    157: Xid("warning", "a resource could not be retired", SUPPORT),
    158: Xid("fault", "a fatal timeout", RESET),
    159: Xid("program", "error on the coherent bus", RESTART),
    **_group("160 161", "info", "a channel was retired", NOTHING),
    **_group("162 163", "info", "power smoothing was switched on or off", NOTHING),
    164: Xid("warning", "the power smoothing circuit is near the end of its life", SUPPORT),
    165: Xid("warning", "the power smoothing circuit is at the end of its life", SUPPORT),
    **_group("166 170", "fault", "error on an encrypted NVLink", LINK),
    167: Xid("fault", "a fatal timeout on PCIe", BUS),
    168: Xid("fault", "memory errors reduced the usable capacity", RESET),
    169: Xid("fault", "the GPU's security processor stopped", RESET),
    **_group("171 172", "fault", "uncorrectable memory error (beside XID 48)", RESET),
    173: Xid("fault", "the chip-to-chip link failed", RESET),
    174: Xid("program", "a program was ended because its channel was reset", RESTART),
    175: Xid("fault", "error in the memory subsystem", RESET),
    176: Xid("warning", "too many corrected errors on PCIe", "`salt-call --local gpu.health load=True`; " + BUS),
}  # fmt: skip
UNKNOWN = Xid("warning", "an XID that is not in the catalog", "look it up: docs.nvidia.com/deploy/xid-errors")
# "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)": gpu.c, _gpuRecoveryActionName
RECOVERY = re.compile(r"changed from .* to 0x(?P<action>[0-9a-fA-F]+)(?: \((?P<name>[^)]*)\))?")


def meaning(code: int, text: str = "") -> Xid:
    """Return the meaning of a code. text: the rest of the log's line, which contains the action of XID 154."""
    known = XIDS.get(code, UNKNOWN)
    if code != 154:
        return known
    asked = RECOVERY.search(text)
    if asked and int(asked["action"], 16) == 0:
        return known
    if asked:
        action = asked["name"] or f"action 0x{asked['action']}"
    elif "Required" in text:
        action = text
    else:
        return known
    return Xid("fault", f"the driver requests: {action.strip().lower()}", RESET)
