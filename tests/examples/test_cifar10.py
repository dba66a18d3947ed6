from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

import moka
from moka.data import datum
from moka.data.store import open_store
from moka.schema import caffe_pb2, read_binary, read_text
from moka.schema.blobproto import to_array

if TYPE_CHECKING:
    from tests.examples.conftest import ChangeSolver, CopyExamples, LoadScript

ROOT = Path(__file__).parents[2]
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
COUNTS = {"train": 2, "test": 1}  # images of each class


def image(part: str, label: int, number: int) -> np.ndarray:
    """(32, 32, 3), BGR."""
    rng = np.random.default_rng([len(part), label, number])
    return rng.integers(0, 256, (32, 32, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train/<class>/*.png, test/<class>/*.png."""
    for part, count in COUNTS.items():
        for label, name in enumerate(CLASSES):
            place = tmp_path / "given" / part / name
            place.mkdir(parents=True)
            for i in range(count):
                cv2.imwrite(str(place / f"{i:04}.png"), image(part, label, i))
    return tmp_path / "given"


@pytest.fixture
def batches(tmp_path: Path) -> Path:
    """CIFAR-10's binary version: all of a part's first images, then all second ones, ..."""

    def record(part: str, label: int, number: int) -> bytes:
        rgb = image(part, label, number)[..., ::-1].transpose(2, 0, 1)
        return bytes([label]) + rgb.tobytes()

    place = tmp_path / "given" / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    for i in range(5):  # four images in each file
        every = [(k % 10, k // 10) for k in range(4 * i, 4 * i + 4)]
        data = b"".join(record("train", label, number) for label, number in every)
        (place / f"data_batch_{i + 1}.bin").write_bytes(data)
    (place / "test_batch.bin").write_bytes(b"".join(record("test", k, 0) for k in range(10)))
    return tmp_path / "given"


def archive(folder: Path) -> Path:
    """The folder with its content in an archive."""
    target = folder.parent / "packed" / "cifar.tar.gz"
    target.parent.mkdir()
    with tarfile.open(target, "w:gz") as packed:
        for path in folder.iterdir():
            packed.add(path, path.name)
    return target


def check_databases(example: Path) -> None:
    mean = np.zeros((3, 32, 32))
    for part, count in COUNTS.items():
        found = {}
        for key, value in open_store(example / f"cifar10_{part}_lmdb").read():
            record = datum.parse(value)
            found[key.decode()[9:]] = record.label
            number = int(key.decode().rpartition("/")[2][:4])
            expected = image(part, record.label, number).transpose(2, 0, 1)
            assert np.array_equal(datum.decode(record), expected)
            mean += expected if part == "train" else 0
        files = {
            f"{part}/{name}/{i:04}.png": label
            for label, name in enumerate(CLASSES)
            for i in range(count)
        }
        assert found == files
        if part == "train":
            assert list(found) != sorted(found)  # in random order
    stored = to_array(read_binary(example / "mean.binaryproto", caffe_pb2.BlobProto))
    assert stored[0] == pytest.approx(mean / 20, abs=1e-4)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize("form", ["folder", "batches"])
def test_get_data(
    copy_examples: CopyExamples,
    load_script: LoadScript,
    request: pytest.FixtureRequest,
    form: str,
    packed: bool,
) -> None:
    given = request.getfixturevalue(form)
    example = copy_examples("cifar10")
    source = archive(given).parent if packed else given
    load_script("cifar10/get_data").main(["--from", str(source)])
    check_databases(example)
    assert not (example / "data" / "unpacking").exists()


def test_get_data_makes_nothing_twice(
    copy_examples: CopyExamples,
    load_script: LoadScript,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy_examples("cifar10")
    script = load_script("cifar10/get_data")
    script.main(["--from", str(folder)])
    capsys.readouterr()
    script.main([])
    assert capsys.readouterr().out == (
        "cifar10_train_lmdb is there already\ncifar10_test_lmdb is there already\n"
    )


def test_get_data_downloads(
    copy_examples: CopyExamples,
    load_script: LoadScript,
    batches: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import hashlib

    example = copy_examples("cifar10")
    script = load_script("cifar10/get_data")
    packed = archive(batches)
    monkeypatch.setattr(script, "URL", packed.as_uri())
    with pytest.raises(SystemExit, match=r"came damaged: MD5 .*, expected c32a1d4ab5d03f1284b6"):
        script.main([])
    monkeypatch.setattr(script, "MD5", hashlib.md5(packed.read_bytes()).hexdigest())
    script.main([])
    check_databases(example)


def test_get_data_says_what_is_wrong(
    copy_examples: CopyExamples,
    load_script: LoadScript,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example = copy_examples("cifar10")
    script = load_script("cifar10/get_data")
    monkeypatch.setattr(script, "URL", (tmp_path / "gone.tar.gz").as_uri())
    with pytest.raises(SystemExit, match=r"gone.tar.gz: .*No such file.*Use --from PATH\.$"):
        script.main([])
    (tmp_path / "empty").mkdir()
    for place in ("empty", "gone"):
        with pytest.raises(SystemExit, match=rf"{place} is neither CIFAR-10 nor holds it"):
            script.main(["--from", str(tmp_path / place)])
    broken = tmp_path / "broken.tgz"
    broken.write_bytes(b"no archive")
    with pytest.raises(SystemExit, match=r"broken\.tgz cannot be unpacked: "):
        script.main(["--from", str(broken)])
    packed = archive(tmp_path / "empty")
    with pytest.raises(SystemExit, match=r"holds neither train/ and test/ nor data_batch_1\.bin"):
        script.main(["--from", str(packed)])
    (folder / "train" / "cat" / "0001.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match=r"1 of 20 images cannot be read"):
        script.main(["--from", str(folder)])
    assert not (example / "cifar10_train_lmdb").exists()
    for file in (example / "data/images/train/cat").glob("*"):
        file.unlink()
    with pytest.raises(SystemExit, match=r"there are no images in .*train/cat"):
        script.main([])


@pytest.mark.parametrize(("net", "last"), [("quick", "lr1"), ("full", "lr2")])
def test_training_and_pictures(
    copy_examples: CopyExamples,
    load_script: LoadScript,
    change_solver: ChangeSolver,
    folder: Path,
    net: str,
    last: str,
) -> None:
    example = copy_examples("cifar10")
    load_script("cifar10/get_data").main(["--from", str(folder)])
    solver = example / f"cifar10_{net}_solver.prototxt"
    later = example / f"cifar10_{net}_solver_{last}.prototxt"
    change_solver(solver, max_iter=1, test_iter=1)
    change_solver(later, max_iter=2, test_iter=1)
    moka.train(solver)
    trained = moka.train(later, resume=str(example / f"cifar10_{net}_iter_1.solverstate"))
    assert trained.iteration == 2
    weights = example / f"cifar10_{net}_iter_2.caffemodel"
    deployed = moka.load(example / f"cifar10_{net}.prototxt", weights)
    values = [value.tolist() for value in trained.net.state_dict().values()]
    assert [value.tolist() for value in deployed.state_dict().values()] == values
    if net == "quick":
        weights.rename(example / "cifar10_quick_iter_5000.caffemodel")
        load_script("cifar10/look.py").main([])
        for name in ("filters", "feature_maps", "guesses"):
            assert (example / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_need_a_model(
    copy_examples: CopyExamples, load_script: LoadScript, folder: Path
) -> None:
    copy_examples("cifar10")
    with pytest.raises(SystemExit, match=r"look\.py: File not found: .*mean\.binaryproto"):
        load_script("cifar10/look.py").main([str(folder / "test/frog/0000.png")])


@pytest.mark.parametrize("script", ["train_quick", "train_full"])
def test_a_stage_goes_on_from_the_one_before(script: str, tmp_path: Path) -> None:
    """What the scripts hand to `caffe`; another program of that name writes it down."""
    caffe = tmp_path / "caffe"
    caffe.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    caffe.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = [str(ROOT / "examples/cifar10" / script), "--gpu=0"]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PATH": path})
    before = None
    for line in (tmp_path / "calls").read_text().splitlines():
        action, solver, *resume, gpu = line.split()
        assert (action, gpu) == ("train", "--gpu=0")
        assert resume == ([f"--snapshot={before}"] if before else [])
        config = read_text(ROOT / solver.removeprefix("--solver="), caffe_pb2.SolverParameter)
        assert config.max_iter % config.snapshot == 0
        before = f"{config.snapshot_prefix}_iter_{config.max_iter}.solverstate"
    assert before == f"examples/cifar10/cifar10_{script[6:]}_iter_{config.max_iter}.solverstate"
