"""From a table to the picked rows with all their columns: --keep, --scores and --join."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import entroselect
from entroselect.io.columns import Tables
from tests.support.commands import entries, fails, ok

pd, pa, pq = (pytest.importorskip(name) for name in ("pandas", "pyarrow", "pyarrow.parquet"))

N = 2000


@pytest.fixture
def frame(folder):
    """pool.parquet, whose rows have a vector, an id, a label, a score, a text and a list."""
    draw = np.random.default_rng(7)
    vectors = draw.integers(-4, 5, size=(N, 6)).astype(np.float32)
    columns = {
        "caption": [None if row % 7 == 0 else f"row {row}" for row in range(N)],
        "id": [f"doc-{row:05}" for row in draw.permutation(N)],
        "label": np.array(["a", "b", "c"])[draw.integers(0, 3, N) // (1 + draw.integers(0, 2, N))],
        "score": draw.integers(0, 50, N) / 10,
        "tags": [list("abc"[: row % 4]) for row in range(N)],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 6),
    }
    pq.write_table(pa.table(columns), "pool.parquet", row_group_size=301)
    return pd.read_parquet("pool.parquet")


def joined(out="out"):
    """joined.parquet in pick order, and what --join added to it."""
    table = pd.read_parquet(f"{out}/joined.parquet")
    assert pq.read_schema(f"{out}/joined.parquet").names == list(table.columns)
    table = table.sort_values("rank", ignore_index=True)
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    return table.iloc[:, 2:], table.iloc[:, :2]


def test_the_walk(frame, monkeypatch):
    """Select per group beside kept rows, threshold by score, deduplicate: each against pandas."""
    monkeypatch.setattr("entroselect.cli.selection_files._ROW_GROUP", 1 << 12)
    vectors = np.stack(frame["vector"])
    kept = frame.index[frame["score"] > 4.8]
    Path("keep.txt").write_text("\n".join(frame["id"][kept]) + "\n")
    for limit in ([], ["--memory-limit", "1GB"]):
        ok("select", "pool.parquet", "-k", 150, "--keep", "keep.txt", "--groups",
           "pool.parquet:label", "--quota", "equal", "--join", "-o", "out", "--force",
           "--no-entropy", *limit)  # fmt: skip
        expected = entroselect.greedy_select(
            vectors, 150, selected=kept, groups=frame["label"], quotas="equal"
        )
        rows, added = joined()
        pd.testing.assert_frame_equal(rows, frame.iloc[expected.indices].reset_index(drop=True))
        assert added["distance"].tolist() == expected.distances.tolist()
        assert rows["label"].value_counts().tolist() == [50, 50, 50]
    assert pq.ParquetFile("out/joined.parquet").num_row_groups > 2

    scored = ["--scores", "pool.parquet:score", "--join", "-o"]
    ok("select", "pool.parquet", "-k", 90, "--method", "threshold", *scored, "best")
    expected = entroselect.threshold_select(vectors, 90, scores=frame["score"])
    rows, added = joined("best")
    pd.testing.assert_frame_equal(rows, frame.iloc[expected.indices].reset_index(drop=True))
    assert rows["score"][0] == frame["score"].max()
    assert added["distance"].isna().tolist() == [True] + [False] * 89

    ok("deduplicate", "pool.parquet", "--distance", 3, *scored, "kept")
    expected = entroselect.deduplicate(vectors, 3.0, scores=frame["score"])
    rows, added = joined("kept")
    pd.testing.assert_frame_equal(rows, frame.iloc[expected.indices].reset_index(drop=True))
    assert added["rows"].tolist() == expected.sizes.tolist()
    best = frame["score"].groupby(expected.duplicate_of).max()
    assert (best == frame["score"][best.index]).mean() > 0.5  # kept: mostly the best of theirs


def test_rows_are_kept_by_id_or_by_number(frame):
    pool = np.stack(frame["vector"])
    kept = np.array([1999, 0, 700])
    numbers = pq.read_table("pool.parquet").append_column("number", pa.array(range(10, N + 10)))
    pq.write_table(numbers, "numbered.parquet")
    np.save("rows.npy", pool)
    np.save("kept.npy", kept)
    np.save("ten.npy", kept + 10)
    Path("ten.txt").write_text("\n".join(map(str, kept + 10)))
    pq.write_table(pa.table({"name": frame["id"][kept]}), "kept.parquet")
    expected = entroselect.greedy_select(pool, 5, selected=kept).indices.tolist()
    for name, keep, options in (
        ("pool.parquet", "kept.parquet:name", []),
        ("numbered.parquet", "ten.npy", ["--id-column", "number"]),
        ("numbered.parquet", "ten.txt", ["--id-column", "number"]),
        ("rows.npy", "kept.npy", []),
    ):
        ok("select", name, "-k", 5, "--keep", keep, *options, "-o", "out", "--force")
        assert np.load("out/indices.npy").tolist() == expected


def test_bad_files_and_columns_are_named_before_the_work(frame, monkeypatch):
    monkeypatch.setattr("entroselect.cli.inputs.in_memory", None)
    before = entries(Path())
    Path("wrong.txt").write_text("doc-1\ndoc-00007\n")
    pool = pq.read_table("pool.parquet")
    pq.write_table(pool.append_column("distance", pool["score"]), "taken.parquet")
    pq.write_table(pool.set_column(1, "id", [["x"] * N]), "twice.parquet")
    Path("x.txt").write_text("x\n")
    np.save("many.npy", [60])
    np.save("flat.npy", np.zeros((3, 2), int))
    for code, options, said in (
        (1, ["pool.npy", "--join"], ["pool.npy", "no columns to join", ".parquet"]),
        (1, ["taken.parquet", "--join"], ["taken.parquet: has a column 'distance'", "rename"]),
        (1, ["pool.parquet", "--keep", "wrong.txt"], ["--keep", "'doc-1' (1 of 2 ids"]),
        (1, ["pool.parquet", "--keep", "many.npy"], ["strings as ids, got 60;", "--selected"]),
        (1, ["pool.parquet", "--keep", "pool.parquet:caption"], ["strings as ids, got None"]),
        (1, ["twice.parquet", "--keep", "x.txt"], ["'x' is the id of two rows", "0 and 1"]),
        (1, ["pool.npy", "--keep", "many.npy"], ["--keep: 60 is no row of pool.npy"]),
        (1, ["pool.npy", "--keep", "x.txt"], ["--keep: expected integers", "'x'"]),
        (1, ["pool.npy", "--keep", "flat.npy"], ["--keep: flat.npy", "(3, 2)"]),
        (1, ["pool.npy", "--keep", "none.txt"], ["none.txt: No such file"]),
        (2, ["pool.npy", "--keep", "x.txt", "--start", "1"], ["--start", "with --keep"]),
        (2, ["pool.npy", "--keep", "x.txt", "--selected", "many.npy"], ["pass one of the two"]),
        (2, ["pool.npy", "--keep", "x.txt", "--method", "random"], ["--keep", "greedy"]),
        (2, ["pool.npy", "--scores", "x.npy"], ["--scores", "only with threshold"]),
        (
            1,
            ["pool.npy", "--scores", "many.npy", "--method", "threshold"],
            ["--scores: many.npy", "(60,)"],
        ),
        (
            2,
            ["pool.npy", "--scores", "x.npy", "--method", "threshold", "--seed", "1"],
            ["--seed", "--scores"],
        ),
    ):
        fails(code, "select", *options, "-k", 3, "-o", "out", saying=said)
    fails(1, "deduplicate", "pool.npy", "--distance", 1, "--join", "-o", "out", saying=["pool.npy"])
    assert not set(entries(Path())) - {*before, "flat.npy", "many.npy", "taken.parquet",
                                       "twice.parquet", "wrong.txt", "x.txt"}  # fmt: skip


def test_tables_in_several_files(folder):
    """Shards with a column more or less, and .npy files with tables beside them."""
    pool = np.load("pool.npy")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(pool.ravel()), 5)
    text = pa.array([f"t{row}" for row in range(60)])
    table = pa.table({"v": vectors, "id": range(60), "text": text, "hole": [None] * 25 + [1] * 35})
    Path("shards").mkdir()
    nothing = pa.nulls(25)
    pq.write_table(table[:25].set_column(3, "hole", nothing), "shards/a.parquet", row_group_size=4)
    pq.write_table(table[25:].drop_columns("text"), "shards/b.parquet")
    Path("beside").mkdir()
    for shard, (begin, end) in enumerate(((0, 31), (31, 60))):
        np.save(f"beside/x_{shard}.npy", pool[begin:end])
        pq.write_table(table[begin:end].drop_columns("v"), f"beside/x_{shard}.parquet")
    parity = pa.table({"even": np.arange(60) % 2 == 0})
    Path("more").mkdir()
    pq.write_table(parity[:11], "more/a.parquet")
    pq.write_table(parity[11:], "more/b.parquet")
    quota = ["--groups", "more:even", "--quota", "True=4"]
    expected = entroselect.greedy_select(
        pool, 20, groups=np.arange(60) % 2 == 0, quotas={True: 4}
    ).indices
    by_pool = table.take(np.sort(expected)).to_pylist()
    without_text = [row if row["id"] < 25 else {**row, "text": None} for row in by_pool]
    for name, rows in (("shards", without_text), ("beside", by_pool)):
        ok("select", name, "-k", 20, *quota, "--join", "-o", f"{name}-out")
        found = pq.read_table(f"{name}-out/joined.parquet").drop_columns(["rank", "distance"])
        names = found.column_names
        assert found.to_pylist() == [{each: row[each] for each in names} for row in rows]
    pq.write_table(table[25:].set_column(2, "text", [range(35)]), "shards/b.parquet")
    fails(1, "select", "shards", "-k", 9, "--join", "-o", "out", saying=["b.parquet", "text"])
    for groups, said in (("shards:x", "a.parquet: has no column 'x'"), ("more", "FILE:COLUMN")):
        fails(1, "select", "shards", "-k", 9, "--groups", groups, "-o", "out", saying=[said])


def test_columns_that_some_shards_must_not_leave_out(folder):
    """A column without nulls, and one that is nested, which other shards do not have; and views of
    texts, which Arrow cannot take rows of."""
    vectors = {"v": [[float(row), 1.0] for row in range(4)]}
    whole = pa.table({**vectors, "count": [1, 2, 3, 4]})
    whole = whole.cast(pa.schema([whole.field(0), whole.field(1).with_nullable(False)]))
    views = pa.array(["a", None, "c", "d"], pa.string_view())
    nested = pa.array([["x" * 20], [], None, ["y"]], pa.list_(pa.string_view()))
    shards = [whole, pa.table({**vectors, "id": pa.array("efgh", pa.string_view())}),
              pa.table({**vectors, "view": views, "nested": nested})]  # fmt: skip
    Path("shards").mkdir()
    for shard, table in enumerate(shards):
        pq.write_table(table, f"shards/{shard}.parquet")
    ok("select", "shards", "-k", 12, "--join", "-o", "out")
    found = pq.read_table("out/joined.parquet").drop_columns(["rank", "distance"]).to_pylist()
    nothing = dict.fromkeys(found[0])
    assert found == [{**nothing, **row} for table in shards for row in table.to_pylist()]
    table = shards[1]
    ok("select", "shards/1.parquet", "-k", 2, "--join", "-o", "one")
    assert entroselect.open_pool(table).ids(np.array([3, 0])).tolist() == ["h", "e"]
    for kind in (table, table.to_batches()[0], table["id"], table["id"].chunk(0)):
        taken = entroselect.take(kind, [3, 0, 3])
        assert type(taken) is type(kind)
        assert (taken if kind is not table else taken["id"]).to_pylist()[0] in ("h", {
            "v": [3.0, 1.0], "id": "h"})  # fmt: skip


def test_columns_of_numbers_and_labels_with_holes(folder):
    """A missing value of a column with a dictionary is no label and no number; files without rows
    say nothing about a column."""
    pool = pa.table({"v": [[float(row), 0.0] for row in range(4)]})
    labels = pa.array(["a", None, "c", "b"]).dictionary_encode()
    numbers = pa.array([1, None, 3, 9]).dictionary_encode()
    pool = pool.append_column("label", labels).append_column("number", numbers)
    pq.write_table(pool, "holes.parquet")
    for options, said in (
        (["--groups", "holes.parquet:label"], "row 1 (the first) has the label None"),
        (["--weights", "holes.parquet:number"], "row 1 (the first) has nan"),
        (["--method", "threshold", "--scores", "holes.parquet:number"], "row 1 (the first)"),
    ):
        fails(1, "select", "holes.parquet", "-k", 2, *options, "-o", "out", saying=[said])
    with pytest.raises(ValueError, match=r"row 1 .* has the label None"):
        entroselect.greedy_select(np.eye(4), 2, groups=pool["label"])
    with pytest.raises(ValueError, match=r"row 1 .* has nan"):
        entroselect.greedy_select(np.eye(4), 2, weights=pool["number"].chunk(0))
    Path("shards").mkdir()
    full = pool.drop_columns(["label", "number"]).append_column("label", [[1, 1, 2, 2]])
    pq.write_table(full, "shards/0.parquet")
    pq.write_table(pool[:0].drop_columns(["label"]), "shards/1.parquet")
    pq.write_table(pa.table({"v": pool["v"][:0], "label": pa.nulls(0)}), "shards/2.parquet")
    ok("select", "shards", "-k", 2, "--groups", "shards:label", "--quota", "2=0", "-o", "out")
    assert sorted(np.load("out/indices.npy").tolist()) == [0, 1]


def test_large_ids_are_kept_by_their_own_number(folder):
    ids = np.array([3, 2**63, 2**64 - 1, 2**63 + 1], np.uint64)
    pq.write_table(pa.table({"v": [[0.0], [1.0], [9.0], [4.0]], "id": ids}), "pool.parquet")
    Path("kept.txt").write_text(f"{2**63 + 1}\n3\n")
    np.save("kept.npy", ids[[3, 0]])
    for kept in ("kept.txt", "kept.npy"):
        ok("select", "pool.parquet", "-k", 1, "--keep", kept, "-o", "out", "--force")
        assert np.load("out/indices.npy").tolist() == [2]
        assert "0.0" not in Path("out/selection.csv").read_text()
    pq.write_table(pa.table({"v": [[0.0], [1.0]], "id": [-1, 3]}), "signed.parquet")
    np.save("kept.npy", ids[2:3])
    fails(1, "select", "signed.parquet", "-k", 1, "--keep", "kept.npy", "-o", "no",
          saying=[f"no row of signed.parquet has the id {2**64 - 1}"])  # fmt: skip


def test_tables_come_in_pieces_of_a_file_that_stays_as_it_is(folder):
    wide = pa.table({"v": [[1.0]] * 5000, "text": ["x" * 10_000] * 5000})
    pq.write_table(wide, "pool.parquet", compression="none", use_dictionary=False)
    tables = Tables(entroselect.open_pool("pool.parquet"))
    sizes = [len(part) for part in tables.take(np.arange(5000))]
    assert max(sizes) < 1000  # some megabytes at a time
    pq.write_table(wide[:4000], "pool.parquet")
    with pytest.raises(ValueError, match=r"pool.parquet: changed since it was opened"):
        list(tables.take(np.array([4500])))
