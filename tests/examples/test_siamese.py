from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import moka
from moka.data import datum
from moka.data.store import open_store

if TYPE_CHECKING:
    from tests.examples.conftest import ChangeSolver, CopyExamples, LoadScript, WriteMnist


def test_from_pairs_to_the_picture(
    copy_examples: CopyExamples,
    load_script: LoadScript,
    change_solver: ChangeSolver,
    write_mnist: WriteMnist,
) -> None:
    example = copy_examples("siamese")
    write_mnist("train", 40)
    write_mnist("t10k", 30)
    load_script("siamese/make_data.py").main()
    for name, count in (("train", 40), ("test", 30)):
        records = [v for _, v in open_store(example / f"mnist_siamese_{name}_lmdb").read()]
        assert [datum.decode(datum.parse(v)).shape for v in records] == [(2, 28, 28)] * count

    solver = example / "mnist_siamese_solver.prototxt"
    change_solver(solver, max_iter=1, test_iter=1)
    trained = moka.train(solver)
    owners = [blob.name for blob in trained.net.learnable]
    assert len(owners) == 2 * len(("conv1", "conv2", "ip1", "ip2", "feat"))  # not of each twin
    weights = example / "mnist_siamese_iter_1.caffemodel"
    twin = moka.load(example / "mnist_siamese.prototxt", weights)
    values = [value.tolist() for value in trained.net.parameters()]
    assert [value.tolist() for value in twin.parameters()] == values

    load_script("siamese/embed.py").main([str(weights)])
    assert (example / "embedding.png").read_bytes().startswith(b"\x89PNG")


def test_data_is_not_made_twice(
    copy_examples: CopyExamples,
    load_script: LoadScript,
    write_mnist: WriteMnist,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy_examples("siamese")
    write_mnist("train", 4)
    write_mnist("t10k", 3)
    script = load_script("siamese/make_data.py")
    script.main()
    script.main()
    assert capsys.readouterr().out == (
        "mnist_siamese_train_lmdb: 4 pairs\nmnist_siamese_test_lmdb: 3 pairs\n"
        "mnist_siamese_train_lmdb is there already\nmnist_siamese_test_lmdb is there already\n"
    )


def test_what_is_missing_is_said(
    copy_examples: CopyExamples, load_script: LoadScript, write_mnist: WriteMnist
) -> None:
    copy_examples("siamese")
    with pytest.raises(SystemExit, match=r"run examples/mnist/get_data first\.$"):
        load_script("siamese/make_data.py").main()
    with pytest.raises(SystemExit, match=r"run examples/mnist/get_data first\.$"):
        load_script("siamese/embed.py").main([])
    write_mnist("t10k", 3)
    with pytest.raises(SystemExit, match=r"File not found: .*mnist_siamese_iter_50000\.caffemodel"):
        load_script("siamese/embed.py").main([])
