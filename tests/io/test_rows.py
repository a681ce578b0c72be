"""Every object that holds numbers on the CPU can be a pool, and gives the picks of its float64
values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import greedy_select, kl_entropy, nearest_distances, reference, threshold_select
from entroselect.io.rows import in_memory_rows
from tests.conftest import normal, same_neighbours, same_selection
from tests.support.processes import python

DTYPES = ["f2", "f4", "f8", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "?"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_real_dtype_is_read_exactly(dtype: str, backend: str) -> None:
    rng = np.random.default_rng(0)
    limit = {"?": 2, "u1": 256, "i1": 128, "f2": 2048}.get(dtype, 30000)
    pool = rng.integers(0, limit, (200, 21)).astype(dtype)
    if dtype in ("i1", "i2", "i4", "i8", "f2", "f4", "f8"):
        pool = pool - pool[::-1]
    oracle = reference.greedy_select(pool.astype(np.float64), 80)
    same_selection(greedy_select(pool, 80, backend=backend), oracle)
    same_neighbours(
        nearest_distances(pool, k=2, backend=backend),
        reference.nearest_distances(pool.astype(np.float64), k=2),
    )


def test_float16_subnormals_and_extremes(backend: str) -> None:
    bits = np.arange(0x7C00, dtype=np.uint16)[: 31 * 1024].reshape(-1, 31)
    pool = np.concatenate([bits, bits | 0x8000]).view(np.float16)
    oracle = reference.greedy_select(pool.astype(np.float64), 150)
    same_selection(greedy_select(pool, 150, backend=backend), oracle)


def _strided() -> dict[str, Any]:
    base = normal(120, 40)
    return {
        "columns": base[:, 3:17],
        "every other row": base[::2],
        "reversed rows": base[::-1],
        "every other column": base[:, ::2],
        "fortran": np.asfortranarray(base),
        "transposed": base.T,
        "big-endian": base.astype(">f4"),
        "unaligned": np.frombuffer(b"x" + base.tobytes(), dtype=np.uint8)[1:]
        .view(np.uint8)
        .view("f4")
        .reshape(120, 40),
        "broadcast": np.broadcast_to(base[:1], (50, 40)),
        "one column": base[:, 5:6],
        "list": base.tolist(),
    }


@pytest.mark.parametrize("name", _strided())
def test_any_layout(name: str, backend: str) -> None:
    pool = _strided()[name]
    contiguous = np.ascontiguousarray(np.asarray(pool).astype(np.float64))
    k = len(contiguous) // 2
    same_selection(greedy_select(pool, k, backend=backend), reference.greedy_select(contiguous, k))


@pytest.mark.filterwarnings("ignore:.*not writable")
def test_torch_takes_the_rows_of_any_layout() -> None:
    """It refuses steps that are negative or no multiple of a value, of one row or column too."""
    torch = pytest.importorskip("torch")
    records = np.zeros(3, [("a", "u1"), ("x", "f4", (2,))])["x"]
    one = {"row": _strided()["reversed rows"][:1], "column": normal(9, 3)[:, ::-1][:, :1]}
    none = {"no rows": normal(9, 3)[::-1][:0], "a record": records[:1]}
    for name, rows in {**_strided(), **one, **none}.items():
        found = in_memory_rows(name, rows, may_be_empty=True).values
        assert np.array_equal(torch.from_numpy(found).numpy(), np.asarray(rows)), name


def test_a_memmap_is_read_in_place(tmp_path: Path) -> None:
    pool = normal(300, 16)
    np.save(tmp_path / "pool.npy", pool)
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    same_selection(greedy_select(mapped, 50), greedy_select(pool, 50))


def test_array_protocol() -> None:
    class Frame:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return normal(60, 5)

    same_selection(greedy_select(Frame(), 20), greedy_select(normal(60, 5), 20))


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_matrix_is_read_as_an_array() -> None:
    pool = normal(60, 5)
    same_selection(greedy_select(np.asmatrix(pool), 20), greedy_select(pool, 20))
    pool[6, 1] = np.nan
    with pytest.raises(ValueError, match=r"row 6 \(the first\) holds nan at column 1"):
        greedy_select(np.asmatrix(pool), 20)


def test_selections_can_be_compared_by_identity_and_hashed() -> None:
    found = greedy_select(normal(20, 2), 3)
    assert found == found
    assert found != greedy_select(normal(20, 2), 3)
    assert len({found}) == 1


def _bfloat16_values(pool: Any) -> Any:
    """float32 values cut to the upper half of their bits: exactly representable in bfloat16."""
    return (pool.view(np.uint32) & 0xFFFF0000).view(np.float32)


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    pool = _bfloat16_values(normal(200, 33))
    tensor = torch.from_numpy(pool)
    oracle = reference.greedy_select(pool, 70)
    for given in (tensor, tensor.double(), tensor.to(torch.bfloat16)):
        same_selection(greedy_select(given, 70), oracle)
    assert reference.greedy_select(tensor.to(torch.bfloat16), 70).indices.tolist() == (
        oracle.indices.tolist()
    )
    same_selection(
        greedy_select(tensor.to(torch.bfloat16)[:, 1:], 70),
        reference.greedy_select(pool[:, 1:], 70),
    )
    assert kl_entropy(tensor.to(torch.bfloat16)) == kl_entropy(pool)
    doubled = torch.cat([tensor, tensor]).to(torch.bfloat16)
    assert kl_entropy(doubled, duplicates="drop") == pytest.approx(kl_entropy(pool), rel=1e-14)
    same_selection(
        greedy_select(pool, 20, selected=tensor[:9].to(torch.bfloat16)),
        reference.greedy_select(pool, 20, selected=pool[:9]),
    )
    same_selection(
        greedy_select(pool, 20, selected=torch.tensor([4, 2])),
        reference.greedy_select(pool, 20, selected=[4, 2]),
    )
    same_selection(
        threshold_select(tensor.half(), 30, seed=1),
        reference.threshold_select(tensor.half().numpy(), 30, seed=1),
    )


def test_torch_tensors_that_cannot_be_read() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"features: cannot be read through DLPack: .*grad"):
        greedy_select(torch.zeros(4, 2, requires_grad=True), 1)
    with pytest.raises(TypeError, match=r"features: (dtype complex64|DLPack type code 5)"):
        greedy_select(torch.zeros(4, 2, dtype=torch.complex64), 1)
    with pytest.raises((TypeError, ValueError), match="features"):
        greedy_select(torch.zeros(4, 2, device="meta"), 1)


def test_a_tensor_outlives_its_name() -> None:
    torch = pytest.importorskip("torch")
    made = [torch.from_numpy(normal(500, 64)).to(torch.bfloat16) for _ in range(3)]
    oracle = greedy_select(made[0].float().numpy(), 100)
    for _ in range(20):
        same_selection(greedy_select(made[1].clone(), 100), oracle)


@pytest.mark.parametrize(
    ("kind", "backend", "says"),
    [
        (2, "cpu", "backend: 'cpu' reads host memory, but an input is on a CUDA device"),
        (2, "reference", "backend: 'reference' reads host memory, but an input is on a CUDA"),
        (10, "auto", "features: on DLPack device type 10; this build serves CPU"),
    ],
)
def test_device_arrays_are_refused_by_name(kind: int, backend: str, says: str) -> None:
    class OnDevice:
        def __dlpack_device__(self) -> tuple[int, int]:
            return kind, 0

        def __dlpack__(self, stream: Any = None) -> Any:
            raise AssertionError("must not be asked")

    with pytest.raises(ValueError, match=says):
        greedy_select(OnDevice(), 1, backend=backend)


def test_numpy_alone_is_enough() -> None:
    """Importing and selecting must not pull in anything beyond NumPy."""
    code = (
        "import sys, numpy as np, entroselect\n"
        "entroselect.greedy_select(np.eye(9), 4, progress=True)\n"
        "entroselect.kl_entropy(np.eye(9))\n"
        "heavy = {'torch', 'scipy', 'rich', 'typer', 'matplotlib', 'sklearn', 'triton'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    python("-c", code)
