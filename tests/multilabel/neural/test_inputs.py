from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse

from evenhand.multilabel.neural.inputs import Column, Inputs, as_pixels
from evenhand.multilabel.views import Views

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
MATRIX = np.arange(6.0).reshape(3, 2)
STACK = PICTURES / 255
STACK[1, 4, 3, 2] = np.nan


@pytest.mark.parametrize(
    ("X", "kinds"),
    [
        (MATRIX, {"all": "dense"}),
        (sparse.csr_array(MATRIX), {"all": "sparse"}),
        (pl.DataFrame(MATRIX), {"all": "dense"}),
        (MATRIX.tolist(), {"all": "dense"}),
        ([MATRIX, sparse.csr_array(MATRIX)], {"view1": "dense", "view2": "sparse"}),
        (Views({"a": MATRIX}), {"a": "dense"}),
        (["a tree", None, "b"], {"all": "texts"}),
        (np.array([["a", "b"]] * 3, dtype=object), {"all": "texts"}),
        (PICTURES, {"all": "images"}),
        (list(PICTURES / 255), {"all": "images"}),
        ({"t": ["a", "b", "c"], "i": PICTURES, "m": MATRIX}, {"t": "texts", "i": "images", "m": "dense"}),
    ],
)
def test_what_a_user_may_pass(X, kinds):
    inputs = Inputs.of(X)
    assert inputs.kinds == kinds
    assert len(inputs) == 3
    assert len(inputs[np.array([2, 0])]) == 2
    assert Inputs.of(inputs) is inputs


def test_files_may_be_given_as_an_array(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed (evenhand[images])")
    paths = [tmp_path / f"{row}.png" for row in range(3)]
    for path, picture in zip(paths, PICTURES, strict=True):
        image.fromarray(picture).save(path)
    one, other = (Inputs.of(given).columns["all"] for given in (paths, np.array(paths)))
    assert (one.kind, one.digest()) == (other.kind, other.digest())


def test_text_columns_are_joined_and_rows_chosen_in_order():
    inputs = Inputs.of([["a", "b"], [None, "c"]])
    assert inputs.columns["all"].rows == ["a b", " c"]
    assert inputs[np.array([1, 0])].columns["all"].rows == [" c", "a b"]


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("one text", "is one text or file, not a list of them"),
        ({}, "all views must be of the same instances"),
        ({"a": MATRIX, "b": ["x"]}, r"all views must be of the same instances.*\{'a': 3, 'b': 1\}"),
        (["a", 3], "row 1, text column 0 is 3, not a text"),
        ([PICTURES[0], PICTURES[1][:, :, :2]], r"row 1 has shape \(5, 4, 2\); an image is an array"),
        ([PICTURES[0], "picture.png"], "row 1 is str, not an image: give a Path or an array"),
        (list(PICTURES.astype(np.float64)), r"row 0 holds floats outside \[0, 1\]; scale them"),
        (list(PICTURES.astype(np.int64)), "row 0 is int64; an image holds uint8"),
        ([Path("/nowhere/a.png")], "row 0: there is no image file /nowhere/a.png"),
        (np.full((2, 2), np.nan), "view 'all' is NaN in row 0, column 0"),
        (STACK, "view 'all', row 1 holds NaN; mend it or leave the row out"),
        (list(STACK), "view 'all', row 1 holds NaN"),
        (PICTURES / 127, r"view 'all', row 0 holds floats outside"),
        (PICTURES[..., :2], r"view 'all', row 0 has shape \(5, 4, 2\)"),
        ({"t": ["a", 3]}, "view 't': row 1, text column 0 is 3, not a text"),
        ({1: ["a", "b"]}, "the name of a view must be a text that is not empty, not 1"),
        ({"": PICTURES}, "the name of a view must be a text that is not empty, not ''"),
    ],
)
def test_what_is_no_input_is_refused(X, message):
    with pytest.raises(ValueError, match=message):
        Inputs.of(X)


def test_pixels_of_arrays():
    pixels = as_pixels(PICTURES[0], None)
    assert torch.equal(pixels, torch.from_numpy(PICTURES[0]).permute(2, 0, 1) / 255)
    grey = as_pixels(PICTURES[0][:, :, :1], None)
    assert torch.equal(grey[0], grey[2])
    flat = as_pixels(np.full((6, 9, 3), 0.25), (3, 3))
    torch.testing.assert_close(flat, torch.full((3, 3, 3), 0.25))


def test_image_files_are_read_as_their_pixels(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed (evenhand[images])")
    image.fromarray(PICTURES[0]).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert Inputs.of([content]).kinds == {"all": "images"}
    assert torch.equal(as_pixels(content, None), as_pixels(PICTURES[0], None))
    assert torch.equal(as_pixels(tmp_path / "a.png", None), as_pixels(PICTURES[0], None))
    assert torch.equal(as_pixels(image.fromarray(PICTURES[0]), None), as_pixels(PICTURES[0], None))
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(ValueError, match=r"b.png is no image that Pillow can read"):
        as_pixels(tmp_path / "b.png", None)


def test_digests_tell_contents_apart(tmp_path):
    columns = [
        Column("texts", ["ab", "c"]),
        Column("texts", ["a", "bc"]),
        Column("images", list(PICTURES)),
        Column("images", PICTURES),
        Column("dense", MATRIX),
    ]
    assert len({column.digest() for column in columns}) == len(columns)
    assert columns[0].digest() == Column("texts", ["ab", "c"]).digest()
    file = tmp_path / "a.png"
    file.write_bytes(b"1")
    before = Column("images", [file]).digest()
    file.write_bytes(b"22")
    assert Column("images", [file]).digest() != before
