"""The models that flags name, or that lie in a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serving.colors import write_model

from moka.command.pages import MODEL_FLAGS
from moka.errors import UsageError
from moka.serving.image_input import Look
from moka.web.model_files import models_in, named_models, pack_model, split_names


def flags(**given: Any) -> dict[str, Any]:
    return {flag.name: flag.default for flag in MODEL_FLAGS} | given


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("net.prototxt", {"": "net.prototxt"}),
        ("a=x.prototxt", {"a": "x.prototxt"}),
        ("a=x,b=y,z", {"a": "x", "b": "y,z"}),
        ("1,2,3", {"": "1,2,3"}),
        ("a=1,2,3,b=mean.npy", {"a": "1,2,3", "b": "mean.npy"}),
    ],
)
def test_names_in_a_flag(text: str, parts: dict[str, str]) -> None:
    assert split_names(text) == parts


def test_one_model() -> None:
    found = named_models(flags(model="nets/alex.prototxt", weights="w.caffemodel",
                               mean="104,117,123", scale=0.5, images_dim="256,256"))  # fmt: skip
    assert list(found) == ["alex"]
    files = found["alex"]
    assert files.look.mean is not None
    assert files.look.mean.tolist() == [104, 117, 123]
    assert (files.look.scale, files.look.resize, files.labels) == (0.5, (256, 256), None)


def test_a_deploy_prototxt_is_called_after_its_folder() -> None:
    found = named_models(flags(model="nets/alex/deploy.prototxt", weights="w.caffemodel"))
    assert list(found) == ["alex"]


def test_several_models() -> None:
    found = named_models(
        flags(
            model="a=x.prototxt,b=y.prototxt",
            weights="a=x.caffemodel,b=y.caffemodel",
            labels="b=l.txt",
            mean="a=1,2,3",
        )
    )
    assert [str(files.net) for files in found.values()] == ["x.prototxt", "y.prototxt"]
    assert (found["a"].labels, str(found["b"].labels)) == (None, "l.txt")
    assert found["a"].look.mean is not None
    assert found["b"].look.mean is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": "x.prototxt"}, "--weights is missing for the net x.prototxt"),
        ({"model": "a=x", "weights": "b=y"}, "--weights names b, which --model does not name"),
        ({"model": "x", "weights": "y", "images_dim": "3"}, "--images_dim is height,width"),
        ({"model": "x", "weights": "y", "channel_swap": "a"}, "--channel_swap takes whole numbers"),
    ],
)
def test_flags_that_do_not_fit(given: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        named_models(flags(**given))


def test_a_folder_of_models_and_their_flags(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_model(tmp_path / name)
    np.save(tmp_path / "a" / "mean.npy", np.ones(3))
    (tmp_path / "b" / "serve.flags").write_text("# as it was trained\n--scale=0.25\n--mean=7,8,9\n")
    (tmp_path / "b" / "colors_iter_9.caffemodel").write_bytes(b"")
    (tmp_path / "b" / "colors_iter_10.caffemodel").write_bytes(b"")
    (tmp_path / "c").mkdir()
    found = models_in(tmp_path)
    assert list(found) == ["a", "b"]
    assert found["a"].look.mean is not None
    assert found["a"].look.mean.tolist() == [1, 1, 1]
    assert found["a"].labels == tmp_path / "a" / "labels.txt"
    assert found["b"].look.scale == 0.25
    assert str(found["b"].weights).endswith("colors_iter_10.caffemodel")
    assert list(models_in(tmp_path / "a")) == ["a"]


def test_a_folder_with_a_net_for_training(tmp_path: Path) -> None:
    """It counts if there is no net for use."""
    write_model(tmp_path / "a", "train_val.prototxt")
    assert [files.net for files in models_in(tmp_path).values()] == [
        tmp_path / "a/train_val.prototxt"
    ]
    write_model(tmp_path / "a")
    assert [files.net for files in models_in(tmp_path).values()] == [tmp_path / "a/deploy.prototxt"]


def test_folders_that_hold_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no model"):
        models_in(tmp_path)
    with pytest.raises(UsageError, match="is no folder"):
        models_in(tmp_path / "x")
    write_model(tmp_path)
    (tmp_path / "serve.flags").write_text("stray\n")
    with pytest.raises(UsageError, match="holds 'stray', which is no flag"):
        models_in(tmp_path)


@pytest.mark.parametrize("mean", [None, np.array([1.5, 2, 3]), np.ones((3, 10, 10))])
def test_a_packed_model_takes_images_as_before(tmp_path: Path, mean: Any) -> None:
    files = write_model(tmp_path / "colors")
    look = Look(mean, scale=1 / 3, raw_scale=1.0, channel_swap=(0, 1, 2), resize=(10, 10))
    files = replace(files, look=look)
    pack_model(files, tmp_path / "packed")
    (found,) = models_in(tmp_path / "packed").values()
    assert found.labels is not None
    assert Path(found.labels).read_bytes() == (tmp_path / "colors/labels.txt").read_bytes()
    assert found.look.scale == pytest.approx(1 / 3, rel=1e-8)
    same = (found.look.raw_scale, found.look.channel_swap, found.look.resize)
    assert same == (1.0, (0, 1, 2), (10, 10))
    np.testing.assert_array_equal(np.asarray(found.look.mean), np.asarray(mean))
    with pytest.raises(UsageError, match="is there already"):
        pack_model(files, tmp_path / "packed")
