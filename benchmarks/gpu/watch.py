"""What a GPU does while a call runs, as torch.profiler sees it: kernels by name, how much of the
time the device is busy, and how often the host waits for it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.gpu.common import first_line, wait

# Calls of the CUDA runtime in which the host waits for the device.
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")

# Spans of the device in which it does nothing.
IDLE = re.compile(r"(Context|Device|Event|Stream) (Sync|Wait)")


@dataclass
class Seen:
    """Seconds: of the call, in which the device was busy, of each launch of a kernel, and of each
    call that waited. Nothing but the first where there is no GPU."""

    wall: float
    busy: float = 0.0
    kernels: dict[str, list[float]] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=dict)

    def most(self, count: int) -> str:
        """The kernels that take most, as "name launches x mean microseconds"."""
        return ", ".join(
            f"{name} {len(taken)} x {1e6 * sum(taken) / len(taken):.4g} us"
            for name, taken in self._sorted()[:count]
        )

    def table(self) -> list[str]:
        """Everything, as lines of text."""
        waited = sum(map(len, self.waits.values()))
        lines = [
            f"{self.wall:.4g} s under the profiler, device busy {self.busy:.4g} s "
            f"({100 * self.busy / self.wall:.0f} %), {waited} waits of the host"
        ]
        for name, taken in sorted(self.waits.items(), key=lambda pair: -sum(pair[1])):
            lines.append(f"{1e3 * sum(taken):<9.2f} ms {len(taken):8} x  host in {name}")
        for name, taken in self._sorted():
            mean = 1e6 * sum(taken) / len(taken)
            lines.append(f"{1e3 * sum(taken):<9.2f} ms {len(taken):8} x {mean:9.2f} us  {name}")
        return lines

    def _sorted(self) -> list[tuple[str, list[float]]]:
        return sorted(self.kernels.items(), key=lambda pair: -sum(pair[1]))


def watch(run: Callable[[], Any]) -> Seen:
    """Runs the call once under the profiler; a profiler that fails costs its figures only."""
    from torch.profiler import ProfilerActivity, profile

    wait()
    if not torch.cuda.is_available():
        began = time.perf_counter()
        run()
        return Seen(time.perf_counter() - began)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        began = time.perf_counter()
        run()
        wait()
        wall = time.perf_counter() - began
    try:
        return sorted_out(wall, profiler.events())
    except Exception as error:
        print(f"no kernel times, the profiler failed: {first_line(error)}", flush=True)
        return Seen(wall)


def sorted_out(wall: float, events: Iterable[Any]) -> Seen:
    """The profiler's events by what they are; times in them are in microseconds."""
    seen, spans = Seen(wall), []
    for event in events:
        start, end = event.time_range.start, event.time_range.end
        if "CUDA" in str(event.device_type) and not IDLE.match(event.name):
            seen.kernels.setdefault(short(event.name), []).append(1e-6 * (end - start))
            spans.append((start, end))
        elif event.name.startswith(WAITS) and not event.name.endswith("Async"):
            seen.waits.setdefault(event.name, []).append(1e-6 * (end - start))
    done = 0.0
    for start, end in sorted(spans):
        seen.busy += 1e-6 * max(0.0, end - max(start, done))
        done = max(done, end)
    return seen


def short(name: str) -> str:
    """A kernel's name without return type, namespaces and arguments; kernels/cuda has one template
    for all of its own."""
    name = name.replace("(anonymous namespace)::", "")
    own = re.search(r"entroselect::cuda::run<(?:\w+::)*(\w+)", name)
    return own[1] if own else re.split(r"[<(]", name.removeprefix("void "))[0].split("::")[-1]
