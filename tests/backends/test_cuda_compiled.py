"""Every Triton kernel, compiled ahead of time for the GPUs it is meant for: tensor cores are used,
nothing spills, it fits, and its loop is short. No GPU is needed; the compiler and ptxas come with
Triton."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

pytest.importorskip("triton", reason="compiles the kernels")

pytestmark = pytest.mark.slow

# In a process of its own, because here Triton's interpreter may have taken the compiler's place.
COMPILE = """
import json, re, subprocess, sys, tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from entroselect.backends.cuda.autotune import TILES
from entroselect.kernels.triton.filter import filter_pairs

PTX = r"mma\\.sync|wgmma\\.mma_async|tcgen05\\.mma|cp\\.async\\.bulk\\.tensor"
tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


# Instructions of the loop over tiles of columns: all of them, and those of the shortest way around,
# on which no row has a pair to list and the product takes one step at most.
def loop(code):
    labels, lines = {}, []
    for line in code.splitlines():
        if label := re.match(r"(\\.L_\\w+):", line):
            labels[label[1]] = len(lines)
        elif found := re.match(r"\\s+/\\*[0-9a-f]{4,}\\*/\\s+(\\S.*)", line):
            lines.append(found[1])
    after, before = [], [[] for _ in lines]
    for at, line in enumerate(lines):
        after.append([labels[to] for to in re.findall(r"\\bBRA\\b.*`\\((\\.L_\\w+)\\)", line)])
        if at + 1 < len(lines) and not re.match(r"EXIT|RET|BRA(?:\\.\\w+)* `", line):
            after[at].append(at + 1)
        for to in after[at]:
            before[to].append(at)

    def steps(start, edges):
        taken, front, step = {}, {start}, 0
        while front:
            step += 1
            front = {to for at in front for to in edges[at]} - taken.keys()
            taken |= dict.fromkeys(front, step)
        return taken

    # Every iteration has the reduction to the best score of each row.
    best = [at for at, line in enumerate(lines) if "FMNMX" in line][::8]
    around, at = min((taken[at], at) for at in best if at in (taken := steps(at, after)))
    return len(steps(at, after).keys() & steps(at, before).keys()), around


def compiled(major, tile, width, indexed, same, tighten):
    constants = dict(
        BM=tile.rows, BN=tile.columns, BK=min(tile.depth, width),
        INDEXED=bool(indexed), SAME=bool(same), TIGHTEN=bool(tighten), TMA=tile.tma,
    )
    types = dict.fromkeys(("row_codes", "codes"), "*fp16")
    types |= dict.fromkeys(("index", "skip"), "*i64")
    names = ("reach", "first", "scanned", "slots", "starts", "words", "counter")
    types |= dict.fromkeys(names, "*i32")
    types |= dict.fromkeys(("m", "begin", "end", "width", "capacity"), "i32")
    types |= dict.fromkeys(("gamma", "underflow", "stop"), "fp32")
    types |= dict.fromkeys(constants, "constexpr")
    names = filter_pairs.arg_names
    signature = {name: types.get(name, "*fp32") for name in names}
    aligned = [i for i, name in enumerate(names) if signature[name][0] == "*" or name == "width"]
    kernel = triton.compile(
        ASTSource(
            filter_pairs, signature, constexprs=constants,
            attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
        ),
        target=GPUTarget("cuda", major * 10, 32),
        options={"num_warps": tile.warps, "num_stages": tile.stages},
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        used, code = (
            subprocess.check_output([tools / tool, option, file.name], text=True)
            for tool, option in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c"))
        )
    per_element = 32 * tile.warps / (tile.rows * tile.columns)
    return {
        "loop": [count * per_element for count in loop(code)],
        "shared": kernel.metadata.shared,
        "registers": int(re.search(r"REG:(\\d+)", used)[1]),
        "stack": int(re.search(r"STACK:(\\d+)", used)[1]),
        "local": len(re.findall(r"\\b(?:LDL|STL)\\b", code)),
        "products": len(re.findall(r"\\b(?:HMMA|HGMMA|UTCHMMA)\\b", code)),
        "copies": len(re.findall(r"\\bUTMALDG", code)),
        "ptx": re.findall(PTX, kernel.asm["ptx"]),
        "tma": tile.tma,
        "what": f"{tile}: {(width, indexed, same, tighten)}",
    }


major = int(sys.argv[1])
variants = json.loads(sys.argv[2])
print(json.dumps([compiled(major, tile, *more) for tile in TILES[major] for more in variants]))
"""

# The instruction that makes each generation's tensor cores run at full speed, and the shared memory
# a block may have.
EXPECTED = {8: ("mma.sync", 163 << 10), 9: ("wgmma.mma_async", 227 << 10)}
EXPECTED[10] = ("tcgen05.mma", 227 << 10)


# (width, INDEXED, SAME, TIGHTEN): selection; nearest neighbours; several of narrow rows.
VARIANTS = [(768, 1, 0, 1), (768, 0, 1, 1), (32, 0, 0, 0)]


def _compiled(major: int) -> list[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE, str(major), json.dumps(VARIANTS)],
        capture_output=True, text=True, env=environment, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return list(json.loads(done.stdout))


@pytest.mark.parametrize("major", EXPECTED)
def test_the_filter_pass(major: int) -> None:
    instruction, shared = EXPECTED[major]
    compiled = _compiled(major)
    assert {found["tma"] for found in compiled} == ({False, True} if major >= 9 else {False})
    for found in compiled:
        variant = found["what"]
        assert instruction in found["ptx"], variant
        assert ("cp.async.bulk.tensor" in found["ptx"]) == found["tma"], variant
        assert (found["copies"] > 0) == found["tma"], variant
        assert found["products"] > 0, variant
        assert found["local"] == found["stack"] == 0, variant
        assert found["registers"] <= 255, variant
        assert found["shared"] <= shared, variant
        # An element is a score; without TMA, threads also copy the codes, and before Hopper each
        # warp reads them for its own small products.
        whole, around = found["loop"]
        assert around <= (6 if found["tma"] else 13), (variant, around)
        assert whole <= (10.5 if found["tma"] else 25), (variant, whole)
