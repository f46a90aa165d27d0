"""gpu.detect beside `nvidia-smi -q -x`, field by field."""

import xml.etree.ElementTree as ET

WORDS = {"Enabled": "enabled", "Disabled": "disabled", "Default": "default", "Exclusive_Process": "exclusive_process",
         "Prohibited": "prohibited", "Yes": 1, "No": 0, "None": "none"}  # fmt: skip


def number(text):
    """The number in front of a unit: 575.00 W, 32607 MiB, 16x."""
    return float(text.split()[0].rstrip("x"))


def word(text):
    return WORDS.get(text, text)


# path in nvidia-smi's document → path in gpu.detect's, how to read the first, how far they may differ
FIELDS = (
    ("product_name", "name", str, 0),
    ("uuid", "uuid", str, 0),
    ("serial", "serial", str, 0),
    ("vbios_version", "vbios", str, 0),
    ("minor_number", "minor", number, 0),
    ("board_part_number", "part_number", str, 0),
    ("inforom_version/img_version", "inforom", str, 0),
    ("gsp_firmware_version", "gsp_firmware", str, 0),
    ("persistence_mode", "persistence", word, 0),
    ("compute_mode", "compute_mode", word, 0),
    ("gpu_recovery_action", "recovery", word, 0),
    ("mig_mode/current_mig", "mig", word, 0),
    ("mig_mode/pending_mig", "mig_pending", word, 0),
    ("ecc_mode/current_ecc", "ecc", word, 0),
    ("ecc_mode/pending_ecc", "ecc_pending", word, 0),
    ("pci/pci_bus_id", "pcie/bus_id", str, 0),
    ("pci/pci_gpu_link_info/pcie_gen/max_link_gen", "pcie/generation_max", number, 0),
    ("pci/pci_gpu_link_info/pcie_gen/max_device_link_gen", "pcie/generation_gpu", number, 0),
    ("pci/pci_gpu_link_info/link_widths/max_link_width", "pcie/width_max", number, 0),
    ("pci/pci_gpu_link_info/link_widths/current_link_width", "pcie/width", number, 0),
    ("pci/replay_counter", "pcie/replays", number, 0),
    ("fb_memory_usage/total", "memory_mib", number, 0),
    ("fb_memory_usage/reserved", "memory_reserved_mib", number, 1),
    ("bar1_memory_usage/total", "bar1_mib", number, 0),
    ("remapped_rows/remapped_row_corr", "remapped_rows/corrected", number, 0),
    ("remapped_rows/remapped_row_unc", "remapped_rows/uncorrected", number, 0),
    ("remapped_rows/remapped_row_pending", "remapped_rows/pending", word, 0),
    ("remapped_rows/remapped_row_failure", "remapped_rows/failed", word, 0),
    ("retired_pages/multiple_single_bit_retirement/retired_count", "retired_pages/single_bit", number, 0),
    ("retired_pages/double_bit_retirement/retired_count", "retired_pages/double_bit", number, 0),
    ("gpu_power_readings/current_power_limit", "power_limit_w", number, 0.01),
    ("gpu_power_readings/default_power_limit", "power/limit_default_w", number, 0.01),
    ("gpu_power_readings/min_power_limit", "power/limit_min_w", number, 0.01),
    ("gpu_power_readings/max_power_limit", "power/limit_max_w", number, 0.01),
    ("max_clocks/graphics_clock", "clocks_max_mhz/graphics", number, 0),
    ("max_clocks/sm_clock", "clocks_max_mhz/sm", number, 0),
    ("max_clocks/mem_clock", "clocks_max_mhz/memory", number, 0),
    ("max_clocks/video_clock", "clocks_max_mhz/video", number, 0),
    ("applications_clocks/graphics_clock", "clocks_chosen_mhz/graphics", number, 0),
    ("applications_clocks/mem_clock", "clocks_chosen_mhz/memory", number, 0),
    # between the two readings a GPU may warm up a little
    ("temperature/gpu_temp", "temperature_c", number, 5),
    ("temperature/memory_temp", "memory_temperature_c", number, 5),
    ("temperature/gpu_temp_max_threshold", "thresholds_c/shutdown_c", number, 0),
    ("temperature/gpu_temp_slow_threshold", "thresholds_c/slowdown_c", number, 0),
    ("temperature/gpu_temp_max_gpu_threshold", "thresholds_c/gpu_max_c", number, 0),
    ("temperature/gpu_temp_max_mem_threshold", "thresholds_c/memory_max_c", number, 0),
)
# since Hopper nvidia-smi gives thresholds as distances to where clocks drop; the memory's has no distance to begin with
DISTANCES = {
    "temperature/gpu_temp_max_threshold": "temperature/gpu_temp_max_tlimit_threshold",
    "temperature/gpu_temp_slow_threshold": "temperature/gpu_temp_slow_tlimit_threshold",
    "temperature/gpu_temp_max_gpu_threshold": "temperature/gpu_temp_max_gpu_tlimit_threshold",
}
UNSAID = {"temperature/gpu_temp_max_mem_threshold": "temperature/gpu_temp_max_mem_tlimit_threshold"}
ABSENT = ("N/A", "", "Unknown Error", "Requested functionality has been deprecated")


def said_of(gpu, path):
    """What nvidia-smi says of a field, as text; a threshold given as a distance becomes the temperature it means."""
    text = (gpu.findtext(path) or "").strip()
    distance = (gpu.findtext(DISTANCES.get(path, "-")) or "").strip()
    left = (gpu.findtext("temperature/gpu_temp_tlimit") or "").strip()
    if text in ABSENT and distance not in ABSENT and left not in ABSENT:
        return f"{number(gpu.findtext('temperature/gpu_temp')) + number(left) - number(distance):.0f} C"
    return text


def disagreements(document, detected):
    """Lines `GPU n: field: nvidia-smi says …, gpu.detect says …`; and how many fields both have."""
    root = ET.fromstring(document)
    lines, compared = [], 0
    for theirs, ours, where in (
        (root.findtext("driver_version"), detected.get("driver_version"), "driver_version"),
        (root.findtext("cuda_version"), detected.get("cuda_driver_version"), "cuda_driver_version"),
        (int(root.findtext("attached_gpus")), detected["count"], "count"),
    ):
        compared += 1
        if theirs != ours:
            lines.append(f"{where}: nvidia-smi says {theirs}, gpu.detect says {ours}")
    cards = {entry.get("uuid"): entry for entry in detected["devices"]}
    for gpu in root.findall("gpu"):
        card = cards.get(gpu.findtext("uuid"), {})
        for theirs, ours, read, tolerance in FIELDS:
            text = said_of(gpu, theirs)
            if text in ABSENT and gpu.findtext(UNSAID.get(theirs, "-")):
                continue
            value = card
            for part in ours.split("/"):
                value = value.get(part) if isinstance(value, dict) else None
            if text in ABSENT:
                # a card without ECC answers zeros here and N/A there
                if value not in (None, 0):
                    lines.append(
                        f"{gpu.get('id')}: {ours}: nvidia-smi says {text or 'nothing'}, gpu.detect says {value}"
                    )
                continue
            compared += 1
            evidence = read(text)
            same = abs(value - evidence) <= tolerance if tolerance and value is not None else value == evidence
            if not same:
                lines.append(f"{gpu.get('id')}: {ours}: nvidia-smi says {text}, gpu.detect says {value}")
    return lines, compared
