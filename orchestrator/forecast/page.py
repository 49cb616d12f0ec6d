"""The forecast in words, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GB = 1e9


def page(found: Mapping[str, Any]) -> str:
    """Lines that say what `answer` found."""
    lines = [
        f"{found['model']}: {found['parameters']:,} parameters on {found['workers']} x {found['gpu']}, "
        f"micro-batches of {found['rows_per_micro_batch']} rows of {found['input_length']} + {found['target_length']} "
        "tokens",
        "",
        *_memory(found),
        "",
        *_traffic(found["communication_bytes_per_step"]),
        "",
        *_run(found),
    ]
    return "\n".join(lines)


def _memory(found: Mapping[str, Any]) -> list[str]:
    at, largest = found["memory_per_gpu_bytes"], found["largest_part_bytes"]
    lines = ["memory a GPU, GB    at the peak   at most"]
    lines += [f"  {part:<14}{at[part] / GB:>15.2f}{largest[part] / GB:>10.2f}" for part in largest]
    lines.append(f"  {'total':<14}{at['total'] / GB:>15.2f}   ({found['peak_moment']})")
    usable = f"{found['usable_bytes'] / GB:.1f} GB usable of {found['gpu_bytes'] / GB:.1f}"
    if found["fits"]:
        return [*lines, f"fits: {usable}"]
    lines.append(f"does not fit: {at['total'] / GB:.1f} GB wanted, {usable}")
    nearest = found["nearest"]
    if nearest is None:
        return [*lines, "no layout on these GPUs fits; take fewer batch.rows, more GPUs or a smaller model"]
    changes = " ".join(f"{key}={_plain(value)}" for key, value in nearest.items() if key != "total_bytes")
    return [*lines, f"nearest that fits ({nearest['total_bytes'] / GB:.1f} GB): {changes}"]


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _traffic(sent: Mapping[str, int]) -> list[str]:
    lines = ["sent by each GPU a step, GB"]
    return lines + [f"  {name.replace('_', ' '):<30}{count / GB:>12.3f}" for name, count in sent.items()]


def _run(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{found['flops_per_step']:.4g} FLOPs a step, {found['steps']:,} steps, {found['tokens']:,} tokens, "
        f"checkpoints of {found['checkpoint_bytes'] / GB:.2f} GB"
    ]
    if found["hours"] is None:
        return [*lines, "hours and cost need the GPU's peak rate: give --gpu by name"]
    money = "give --price for the cost" if found["cost"] is None else f"cost {found['cost']:,.0f}"
    lost = found["failures"]
    return [
        *lines,
        f"{found['hours']:,.1f} hours at {found['mfu']:.0%} of the peak rate "
        f"({found['step_seconds']:.3f} s a step); {money}",
        f"failures: {lost['expected']:.2f} expected, {lost['lost_hours']:.2f} hours lost with saves every "
        f"{lost['interval_hours']:.2f} h; least is lost with one every {lost['best_interval_hours']:.2f} h",
    ]
