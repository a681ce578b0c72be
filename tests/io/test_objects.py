"""Objects that hold numbers: read without a change of value, or refused with the line that converts
them."""

from __future__ import annotations

import decimal
import re

import numpy as np
import pytest

from entroselect import greedy_select, kl_entropy, nearest_distances, open_pool, threshold_select
from entroselect.io.open import as_rows
from entroselect.io.source import EmptySource

X = np.random.default_rng(0).random((20, 6))


def read(given):
    """As an argument, and as a pool."""
    as_argument = np.asarray(as_rows("features", given).values)
    source = open_pool(given)
    assert np.array_equal(source.read(0, source.n), as_argument)
    return as_argument


def refused(given, error, says):
    """By both, under the argument's name."""
    with pytest.raises(error, match=r"^features: ") as caught:
        greedy_select(given, 3)
    assert re.search(says, str(caught.value)), str(caught.value)
    with pytest.raises(error, match=says):
        open_pool(given)


# More dimensions


def test_more_dimensions_are_flattened_in_pools_alone():
    torch = pytest.importorskip("torch")
    cube = torch.tensor(X).view(20, 2, 3)
    for given in (cube, cube.numpy(), cube.tolist(), cube.to(torch.float32), cube.bfloat16()):
        source = open_pool(given)
        assert source.shape == (20, 6)
        assert source.describe()["shape"] == [20, 2, 3]
        with pytest.raises(ValueError, match=r"expected a 2-D array .*got shape \(20, 2, 3\)"):
            greedy_select(given, 3)
        with pytest.raises(ValueError, match=r"features: .*2-D array .*got shape \(20, 2, 3\)"):
            greedy_select(given, 3, memory_limit="1GB")
        assert len(greedy_select(source, 3, memory_limit="1GB").indices) == 3
    assert np.array_equal(open_pool(cube).read(3, 5), X[3:5])
    for given, shape in ((np.zeros((0, 2, 3)), r"\(0, 6\)"), (np.zeros((3, 0, 2)), r"\(3, 0\)")):
        with pytest.raises(ValueError, match=f"empty, shape {shape}"):
            open_pool(given)


# Sparse matrices


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix", "coo_matrix", "csr_array",
                                  "coo_array", "lil_matrix", "dok_matrix"])  # fmt: skip
def test_sparse_matrices(kind):
    sparse = pytest.importorskip("scipy.sparse")
    given = getattr(sparse, kind)(X)
    says = r"a sparse matrix \(" + kind + r" of shape \(20, 6\)\).*\.toarray\(\)"
    refused(given, TypeError, says)
    with pytest.raises(TypeError, match=f"^selected: {says}"):
        greedy_select(X, 3, selected=given)
    with pytest.raises(TypeError, match=f"^features: {says}"):
        greedy_select(given, 3, memory_limit="1GB")
    with pytest.raises(TypeError, match=f"^queries: {says}"):
        nearest_distances(given)
    assert np.array_equal(read(given.toarray()), X)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
def test_sparse_tensors():
    torch = pytest.importorskip("torch")
    for given in (torch.tensor(X).to_sparse(), torch.tensor(X).to_sparse_csr()):
        refused(given, TypeError, r"a sparse matrix \(Tensor of shape \(20, 6\)\).*\.to_dense\(\)")


# Frames, series and tables


def pandas():
    return pytest.importorskip("pandas")


def polars():
    return pytest.importorskip("polars")


def arrow():
    return pytest.importorskip("pyarrow")


FRAMES = {
    "pandas lists": lambda: pandas().DataFrame({"v": list(X), "id": range(20)}),
    "pandas": lambda: pandas().DataFrame({"v": X.tolist(), "id": range(20)}),
    "polars": lambda: polars().DataFrame({"v": X.tolist(), "id": range(20)}),
    "polars array": lambda: polars().DataFrame(
        {"v": polars().Series(X, dtype=polars().Array(polars().Float64, 6)), "id": range(20)}
    ),
    "arrow": lambda: arrow().table({"v": X.tolist(), "id": range(20)}),
    "arrow chunks": lambda: arrow().concat_tables(
        [arrow().table({"v": part.tolist(), "id": [0] * len(part)}) for part in (X[:7], X[7:])]
    ),
    "arrow batch": lambda: arrow().RecordBatch.from_pydict({"v": X.tolist(), "id": range(20)}),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_column_of_a_frame(name):
    frame = FRAMES[name]()
    for column in ("v", None):
        source = open_pool(frame, column=column)
        assert source.format == "table"
        assert np.array_equal(source.read(0, 20), X)
        assert np.array_equal(source.take(np.array([0, 6, 7, 19])), X[[0, 6, 7, 19]])
        if name != "arrow chunks":
            assert source.ids(np.array([19, 3])).tolist() == [19, 3]
    kind = type(frame).__name__
    with pytest.raises(ValueError, match=f"{kind} of 20 rows: has no column 'w'; its columns are"):
        open_pool(frame, column="w")
    with pytest.raises(ValueError, match=f"{kind} of 20 rows: column 'id' holds int64, expected l"):
        open_pool(frame, column="id")
    with pytest.raises(ValueError, match=f"{kind} of 20 rows: has no column 'key'"):
        open_pool(frame, column="v", id_column="key")
    for given, limit in ((open_pool(frame, column="v"), None), (frame, None), (frame, "1MiB")):
        found = greedy_select(given, 5, memory_limit=limit)
        assert found.indices.tolist() == greedy_select(X, 5).indices.tolist()


SERIES = {
    "pandas arrays": lambda: pandas().Series(list(X)),
    "pandas lists": lambda: pandas().Series(X.tolist()),
    "pandas tuples": lambda: pandas().Series([tuple(row) for row in X]),
    "polars": lambda: polars().Series(X.tolist()),
    "polars array": lambda: polars().Series(X, dtype=polars().Array(polars().Float64, 6)),
    "arrow lists": lambda: arrow().array(X.tolist()),
    "arrow large": lambda: arrow().array(X.tolist(), arrow().large_list(arrow().float64())),
    "arrow fixed": lambda: arrow().FixedSizeListArray.from_arrays(arrow().array(X.ravel()), 6),
    "arrow chunks": lambda: arrow().chunked_array([X[:7].tolist(), X[7:].tolist()]),
    "objects": lambda: np.array([*X, None], dtype=object)[:-1],
    "tensors": lambda: [pytest.importorskip("torch").tensor(row) for row in X],
    "arrays": lambda: list(X),
}


@pytest.mark.parametrize("name", SERIES)
def test_series_of_rows(name):
    assert np.array_equal(read(SERIES[name]()), X)
    assert greedy_select(X, 3, selected=SERIES[name]()).indices.tolist() == (
        greedy_select(X, 3, selected=X).indices.tolist()
    )


def test_frames_of_numbers():
    pd, pl, pa = pandas(), polars(), arrow()
    columns = {f"c{column}": X[:, column] for column in range(6)}
    for frame in (pd.DataFrame(columns), pl.DataFrame(columns), pa.table(columns)):
        assert np.array_equal(read(frame), X)
    mixed = {"a": X[:, 0], "b": X[:, 1] > 0.5, "c": np.arange(20)}
    expected = np.column_stack([X[:, 0], X[:, 1] > 0.5, np.arange(20)])
    for frame in (pd.DataFrame(mixed), pl.DataFrame(mixed), pa.table(mixed)):
        assert np.array_equal(read(frame), expected)
    nullable = pd.DataFrame(mixed).convert_dtypes()
    assert np.array_equal(read(nullable), expected)
    nullable.loc[3, "c"] = pd.NA
    refused(nullable, TypeError, r"row 3 at column 2 holds <NA>; drop or fill")
    refused(pd.DataFrame({**mixed, "d": ["x"] * 20}), TypeError, r"row 0 at column 3 holds 'x'")
    bools = {"a": X[:, 0] > 0.5, "b": X[:, 1] > 0.5}
    for frame in (pd.DataFrame(bools), pl.DataFrame(bools), pa.table(bools)):
        assert np.array_equal(read(frame), X[:, :2] > 0.5)


def test_frames_whose_columns_have_other_names_than_texts():
    pd, pa = pandas(), arrow()
    two = X[:, :2]
    labels = ([7, 8], ["a", "a"], pd.MultiIndex.from_tuples([("a", 1), ("a", 2)]))
    for names in labels:
        frame = pd.DataFrame(two, columns=names)
        for given in (frame, frame.convert_dtypes(), frame.astype(pd.SparseDtype(float))):
            assert np.array_equal(read(given), two)
            assert np.array_equal(greedy_select(given, 3).indices, greedy_select(two, 3).indices)
    lists = pd.DataFrame({0: X.tolist(), 1: range(20)})
    assert np.array_equal(read(lists), X)
    assert open_pool(lists, column="0", id_column="1").ids(np.array([3])).tolist() == [3]
    categories = pd.DataFrame({0: pd.Categorical([30, 10, 30]), 1: [1.0, 2.0, 3.0]})
    assert read(categories).tolist() == [[30, 1], [10, 2], [30, 3]]
    twice = pa.table([pa.array(X.tolist())] * 2, names=["v", "v"])
    with pytest.raises(ValueError, match="holds two columns called 'v'; rename one"):
        open_pool(twice, column="v")


def test_a_column_of_a_frame_of_numbers_is_no_row():
    pd, pl, pa = pandas(), polars(), arrow()
    columns = {"a": X[:, 0], "b": X[:, 1]}
    for frame in (pd.DataFrame(columns), pl.DataFrame(columns), pa.table(columns)):
        with pytest.raises(ValueError, match=r"column 'a' holds .*, expected lists of"):
            open_pool(frame, column="a")
    with pytest.raises(TypeError, match=r"features: LazyFrame has no rows yet; pass its .collect"):
        greedy_select(pl.LazyFrame(columns), 2)


def test_ragged_series_name_the_row():
    ragged = [*X.tolist()[:4], [1.0]]
    for given in (ragged, pandas().Series(ragged)):
        refused(given, TypeError, r"row 4 \(the first\) has 1 values where row 0 has 6")
    for given in (polars().Series(ragged), arrow().array(ragged)):
        refused(given, ValueError, r"row 4 \(the first\) holds a list of 1 where others hold 6")
    holes = [*X.tolist()[:4], None]
    for given in (polars().Series(holes), arrow().array(holes)):
        refused(given, ValueError, r"row 4 \(the first\) is missing")


# Numbers as objects


def test_numeric_objects_are_read():
    objects = X.astype(object)
    assert np.array_equal(read(objects), X)
    objects[0, 0], objects[1, 1], objects[2, 2] = True, 7, np.float32(0.5)
    found = read(objects)
    assert (found[0, 0], found[1, 1], found[2, 2], found.dtype) == (1, 7, 0.5, np.float64)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "row 2 at column 3 holds None"),
        ("1.5", "row 2 at column 3 holds '1.5'"),
        (decimal.Decimal("1.5"), r"row 2 at column 3 holds Decimal\('1.5'\)"),
        (1j, "row 2 at column 3 holds 1j"),
        (10**400, "cannot be read as an array of numbers"),
    ],
)
def test_objects_that_are_no_numbers(value, says):
    objects = X.astype(object)
    objects[2, 3] = value
    refused(objects, TypeError, says)
    if not isinstance(value, int):
        refused(objects, TypeError, r"numpy\.asarray\(rows, dtype=float\)")


# Kinds that are no rows


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({1, 2}, r"got set, which has no order; pass sorted\(\.\.\.\)"),
        (frozenset([1]), r"got frozenset, which has no order"),
        ({1: 2}.keys(), r"got dict_keys, which has no order"),
        ((row for row in X), r"got generator; pass list\(\.\.\.\)"),
        (iter(X.tolist()), r"got list_iterator; pass list\(\.\.\.\)"),
        (map(abs, [1]), r"got map; pass list\(\.\.\.\)"),
        (np.ma.masked_greater(X, 0.5), "masked arrays are not supported"),
        ([np.ma.masked_greater(row, 0.5) for row in X], "masked arrays are not supported"),
        (np.zeros((3, 2), [("a", "f4"), ("b", "f4")]), "holds records.*structured_to_unstruct"),
        (X.astype(complex), "dtype complex128 is not supported"),
        (np.zeros((3, 2), "M8[s]"), r"dtype datetime64\[s\] is not supported"),
        (np.zeros((3, 2), "U3"), "dtype str96 is not supported"),
    ],
)
def test_kinds_that_are_no_rows(given, says):
    refused(given, TypeError, says)
    if isinstance(given, np.ndarray):
        return
    with pytest.raises(TypeError, match=f"^selected: .*{says}"):
        greedy_select(X, 3, selected=given)


def test_sets_as_selected_and_order():
    for given in ({1, 2}, {3, 4}.difference([4])):
        with pytest.raises(TypeError, match=r"selected: .*got set.*pass sorted\(\.\.\.\)"):
            greedy_select(X, 3, selected=given)
        with pytest.raises(TypeError, match=r"order: .*got set.*pass sorted\(\.\.\.\)"):
            threshold_select(X, 3, order=given)
    assert 2 not in greedy_select(X, 3, selected=sorted({2, 1})).indices


def test_masks_are_not_taken_for_indices():
    mask = np.arange(20) < 2
    for given in (mask, mask.tolist()):
        with pytest.raises(TypeError, match=r"selected: .*mask of bools.*numpy\.flatnonzero"):
            greedy_select(X, 3, selected=given)


def test_series_of_indices():
    right = greedy_select(X, 3, selected=[4, 2]).indices.tolist()
    for given in (pandas().Series([4, 2]), polars().Series([4, 2]), arrow().array([4, 2]),
                  np.array([4, 2], object).astype(int), range(4, 0, -2), (4, 2)):  # fmt: skip
        assert greedy_select(X, 3, selected=given).indices.tolist() == right


# Datasets whose items fail


class Fails:
    """A map-style dataset with a truncated file."""

    def __init__(self, at, error):
        self.at, self.error = at, error

    def __len__(self):
        return 20

    def __getitem__(self, item):
        if item == self.at:
            raise self.error
        return X[item]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError("truncated"), "item 11 cannot be made: OSError: truncated"),
        (KeyError("x"), "item 11 cannot be made: KeyError: 'x'"),
        (StopIteration(), "item 11 cannot be made: StopIteration"),
        (RuntimeError("worker\ndied"), "item 11 cannot be made: RuntimeError: worker"),
    ],
)
def test_a_dataset_whose_item_fails_names_the_item(error, says):
    source = open_pool(Fails(11, error))
    with pytest.raises(ValueError, match=f"Fails of 20 items: {says}") as caught:
        greedy_select(source, 3)
    assert caught.value.__cause__ is error
    with pytest.raises(ValueError, match=says):
        kl_entropy(source, memory_limit="64MB")
    with pytest.raises(ValueError, match="item 0 cannot be made"):
        open_pool(Fails(0, error))
    with pytest.raises(KeyboardInterrupt):
        open_pool(Fails(0, KeyboardInterrupt()))
    with pytest.raises(MemoryError, match="item 0"):
        open_pool(Fails(0, MemoryError()))


@pytest.mark.parametrize("error", [OSError("truncated"), KeyError("x"), RuntimeError("died")])
def test_rows_that_cannot_be_made_are_named_without_a_pool_too(error):
    says = rf"features: .*item 11 cannot be made: {type(error).__name__}: "
    with pytest.raises(TypeError, match=says):
        greedy_select(Fails(11, error), 3)
    with pytest.raises(MemoryError):
        greedy_select(Fails(11, MemoryError()), 3)
    with pytest.raises(KeyboardInterrupt):
        greedy_select(Fails(11, KeyboardInterrupt()), 3)


def test_a_process_without_rows_passes_an_array():
    """A frame without rows has no dtype that the other processes' rows could be checked against."""
    with pytest.raises(TypeError, match=r"DataFrame without rows; pass numpy.empty\(\(0, columns"):
        EmptySource(pandas().DataFrame(columns=["a", "b"]))
