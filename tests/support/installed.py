"""What a fresh installation must do, in an environment with a wheel and NumPy alone:
`python tests/support/installed.py CHECKOUT`. Wheels are tried with it where they are built, so it
needs no test tools.
"""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path

KERNELS = {
    "x86": ["avx512bf16", "avx512vnni", "avx512", "avxvnni", "avx2", "portable"],
    "arm": ["neondot", "neon", "portable"],
}


def main(checkout: Path) -> None:
    import entroselect
    from entroselect import _core

    assert not {"importlib.metadata", "torch", "scipy"} & set(sys.modules), "imported in vain"
    where = Path(entroselect.__file__).resolve()
    assert not where.is_relative_to(checkout / "entroselect"), f"{where} is the checkout's"
    built = [name for name, reason in _core.instruction_sets() if "built for" not in reason]
    arm = platform.machine() in ("aarch64", "arm64")
    assert built == KERNELS["arm" if arm else "x86"], f"kernels inside: {built}"
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.S)
    assert blocks, "README.md has no code"
    for code in blocks:
        exec(compile(code, "README.md", "exec"), {})
    print(f"entroselect {entroselect.__version__}: {len(blocks)} blocks of README.md ran")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
