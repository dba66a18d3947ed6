"""The .m files, in GNU Octave."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import caffe

M_FILES = Path(__file__).parents[2] / "matlab"
OCTAVE = shutil.which("octave-cli")
pytestmark = pytest.mark.skipif(OCTAVE is None, reason="Octave is not installed")

NET = """
force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 5 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {
  num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "p" type: "Softmax" bottom: "c" top: "p" }
"""
ENVIRONMENT = {
    **os.environ,
    "CAFFE_PYTHON": sys.executable,
    "OMP_NUM_THREADS": "1",  # as the tests here, for equal sums
    "GLOG_minloglevel": "1",
}


def octave(folder: Path, *lines: str) -> str:
    """What a program prints; an error in it is an error here."""
    program = "\n".join((f"addpath {M_FILES} {M_FILES}/demo {M_FILES}/hdf5creation", *lines))
    (folder / "program.m").write_text(program)
    assert OCTAVE
    done = subprocess.run(
        [OCTAVE, "--quiet", "--no-history", "--no-init-file", "program.m"],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests(tmp_path: Path) -> None:
    assert "13 passed, 0 failed" in octave(tmp_path, "exit(caffe.run_tests())")


def test_numbers_are_pycaffe_s_bit_for_bit(tmp_path: Path) -> None:
    (tmp_path / "n.prototxt").write_text(NET)
    octave(
        tmp_path,
        "net = caffe.get_net('n.prototxt', 'test');",
        "net.save('n.caffemodel');",
        "rand('seed', 1); x = single(rand(5, 4, 3, 2));",
        "out = net.forward({x}); p = out{1};",
        "given = single(rand(size(p)));",
        "back = net.backward({given}); dx = back{1};",
        "dw = net.params('c', 1).get_diff(); c = net.blobs('c').get_data();",
        "save('-hdf5', 'out.h5', 'x', 'p', 'given', 'dx', 'dw', 'c');",
    )
    weights = str(tmp_path / "n.caffemodel")
    net = caffe.Net(str(tmp_path / "n.prototxt"), caffe.TEST, weights=weights)
    with h5py.File(tmp_path / "out.h5") as file:
        made = {name: file[name]["value"][...] for name in file}  # in Caffe's order already
    net.blobs["x"].data[...] = made["x"]
    net.forward()
    net.blobs["p"].diff[...] = made["given"]
    net.backward()
    np.testing.assert_array_equal(made["c"], net.blobs["c"].data)
    np.testing.assert_array_equal(made["p"], net.blobs["p"].data)
    np.testing.assert_array_equal(made["dx"], net.blobs["x"].diff)
    np.testing.assert_array_equal(made["dw"], net.params["c"][0].diff)


def test_the_gateway(tmp_path: Path) -> None:
    """Programs of old call it by itself."""
    (tmp_path / "n.prototxt").write_text(NET)
    said = octave(
        tmp_path,
        f"addpath {M_FILES}/+caffe/private",
        "h = caffe_('get_net', 'n.prototxt', 'test');",
        "class(h.ptr), class(h.init_key), isequal(h.init_key, caffe_('get_init_key'))",
        "a = caffe_('net_get_attr', h); fieldnames(a)'",
        "size(a.hLayer_layers), size(a.hBlob_blobs), size(a.layer_names)",
        "class(a.input_blob_indices), a.input_blob_indices, a.output_blob_indices",
        "l = caffe_('layer_get_attr', a.hLayer_layers(1)); size(l.hBlob_blobs)",
        "caffe_('layer_get_type', a.hLayer_layers(2))",
        "caffe_('blob_set_data', a.hBlob_blobs(1), ones(5, 4, 3, 2, 'single'))",
        "caffe_('net_forward', h)",
        "d = caffe_('blob_get_data', a.hBlob_blobs(3)); class(d), size(d)",
        "caffe_('blob_get_shape', a.hBlob_blobs(3))",
        "try, caffe_('blob_set_data', a.hBlob_blobs(1), ones(5, 4, 3, 2)), catch e, e.message, end",
    )
    assert re.findall(r"^ans = (\w.*)$", said, re.MULTILINE) == [
        *("uint64", "double", "1", "double", "0", "2", "Convolution", "single"),
        "blob_set_data takes an array of class single here, got an array of class double.",
    ]
    rows = [line.split() for line in said.splitlines() if re.fullmatch(r"[ \d]+", line)]
    assert rows == [["3", "1"], ["3", "1"], ["3", "1"], ["0", "1"], *[["3", "2", "2", "2"]] * 2]


@pytest.mark.slow
def test_a_killed_python_is_started_anew(tmp_path: Path) -> None:
    (tmp_path / "n.prototxt").write_text(NET)
    layer = (
        "import os, caffe\n"
        "class Kill(caffe.Layer):\n"
        "    def setup(self, bottom, top): pass\n"
        "    def reshape(self, bottom, top): top[0].reshape(1)\n"
        "    def forward(self, bottom, top): os.kill(os.getpid(), 9)\n"
    )
    (tmp_path / "kill.py").write_text(layer)
    (tmp_path / "kill.prototxt").write_text(
        'layer { name: "k" type: "Python" top: "k" python_param { module: "kill" layer: "Kill" } }'
    )
    said = octave(
        tmp_path,
        "net = caffe.Net('n.prototxt', 'test');",
        "killer = caffe.Net('kill.prototxt', 'test');",
        "try, killer.forward_prefilled(); catch e, disp(e.identifier), end",
        "try, net.forward_prefilled(); catch e, disp(e.message), end",
        "net = caffe.Net('n.prototxt', 'test'); net.forward_prefilled(); disp('lives')",
    )
    assert said.splitlines() == [
        "caffe:PythonEnded",
        "this net is gone: it was deleted, or caffe.reset_all or a new Python process has freed it."
        " Make the net or solver anew.",
        "lives",
    ]


def test_no_python(tmp_path: Path) -> None:
    said = octave(
        tmp_path,
        "setenv('CAFFE_PYTHON', '/none/python');",
        "try, caffe.version(), catch e, disp(e.identifier), disp(e.message), end",
    )
    assert said.splitlines()[0] == "caffe:NoPython"
    assert "/none/python" in said


@pytest.mark.slow
def test_vectors(tmp_path: Path) -> None:
    (tmp_path / "n.prototxt").write_text(NET)
    said = octave(
        tmp_path,
        "net = caffe.Net('n.prototxt', 'test');",
        "for k = 1:length(net.layer_vec), disp(net.layer_vec(k).type()), end",
        "v = net.layer_vec; disp(v(end).type()), disp(size(v)), disp(isempty(v(1).params))",
        "v(2).params(2).set_data([3; 4]); disp(net.params('c', 2).get_data()')",
        "some = v(2:3); disp(numel(some)), disp(some(1).type())",
        "try, v(9), catch e, disp(e.message), end",
    )
    assert [line.strip() for line in said.splitlines()] == [
        *("Input", "Convolution", "Softmax", "Softmax", "1   3", "1", "3   4", "2"),
        *("Convolution", "index 9 is out of range: there are 1 to 3."),
    ]


@pytest.mark.slow
def test_hdf5_files_for_a_net(tmp_path: Path) -> None:
    octave(
        tmp_path,
        "data = reshape(single(1:5*4*3*6), 5, 4, 3, 6); labels = 0:5;",
        "store2hdf5('d.h5', data(:, :, :, 1:4), labels(1:4));",
        "store2hdf5('d.h5', data(:, :, :, 5:6), labels(5:6), false);",
        "f = fopen('list.txt', 'w'); fprintf(f, 'd.h5\\n'); fclose(f);",
    )
    (tmp_path / "n.prototxt").write_text(
        'layer { name: "d" type: "HDF5Data" top: "data" top: "label"'
        f' hdf5_data_param {{ source: "{tmp_path}/list.txt" batch_size: 6 }} }}'
    )
    (tmp_path / "list.txt").write_text(f"{tmp_path}/d.h5\n")
    net = caffe.Net(str(tmp_path / "n.prototxt"), caffe.TEST)
    net.forward()
    wanted = np.arange(1, 361, dtype=np.float32).reshape(6, 3, 4, 5)
    np.testing.assert_array_equal(net.blobs["data"].data, wanted)
    assert net.blobs["label"].data.flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_control_c_ends_a_run_with_a_snapshot(tmp_path: Path) -> None:
    (tmp_path / "n.prototxt").write_text(
        'layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 4 dim: 3 }'
        ' data_filler { type: "gaussian" } } }'
        'layer { name: "ip" type: "InnerProduct" bottom: "d" top: "ip" inner_product_param {'
        ' num_output: 1 } } layer { name: "l" type: "Reduction" bottom: "ip" top: "l"'
        " loss_weight: 1 reduction_param { operation: SUMSQ } }"
    )
    (tmp_path / "s.prototxt").write_text(
        'net: "n.prototxt" base_lr: 0.001 lr_policy: "fixed" max_iter: 100000000'
        ' snapshot_prefix: "s"'
    )
    assert OCTAVE
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        environment = {**ENVIRONMENT, "TERM": "dumb", "GLOG_minloglevel": "0"}
        os.execve(OCTAVE, [OCTAVE, "--quiet", "--no-history", "--no-init-file"], environment)
    try:
        write_and_wait(terminal, f"addpath {M_FILES}; s = caffe.Solver('s.prototxt');", ">")
        write_and_wait(terminal, "s.solve()", "Learning Rate Policy")
        time.sleep(0.5)
        write_and_wait(terminal, "\x03", "Optimization stopped early", newline="")
        write_and_wait(terminal, "printf('at %d;', s.iter())", r"at [1-9]\d*;")
        os.write(terminal, b"exit\n")
    finally:
        os.close(terminal)
        deadline = time.monotonic() + 20
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(pid, 9)
            time.sleep(0.05)
    assert list(tmp_path.glob("s_iter_*.solverstate"))


def write_and_wait(terminal: int, text: str, wanted: str, newline: str = "\n") -> None:
    """Type a line and wait until something wanted is shown."""
    os.write(terminal, (text + newline).encode())
    shown = ""
    deadline = time.monotonic() + 60
    while not re.search(wanted, shown):
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")


CROPPED = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 10 dim: 3 dim: 227 dim: 227 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param {
  pool: AVE kernel_size: 40 stride: 37 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip" inner_product_param {
  num_output: 1000 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


@pytest.mark.slow
def test_the_demo_means_over_ten_crops(tmp_path: Path) -> None:
    (tmp_path / "deploy.prototxt").write_text(CROPPED)
    net = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST)
    net.save(str(tmp_path / "x.caffemodel"))
    rng = np.random.default_rng(0)
    mean = rng.random((1, 3, 256, 256), np.float32) * 255
    blob = caffe.io.array_to_blobproto(mean)
    folder = tmp_path / "data" / "ilsvrc12"
    folder.mkdir(parents=True)
    (folder / "imagenet_mean.binaryproto").write_bytes(blob.SerializeToString())
    image = rng.integers(0, 256, (256, 256, 3), np.uint8)
    image.tofile(tmp_path / "image.raw")
    files = shutil.copytree(M_FILES, tmp_path / "matlab")  # since the mean is kept in there
    said = octave(
        tmp_path,
        f"rmpath {M_FILES} {M_FILES}/demo; addpath {files} {files}/demo",
        "f = fopen('image.raw'); im = fread(f, Inf, '*uint8'); fclose(f);",
        "im = permute(reshape(im, 3, 256, 256), [3, 2, 1]);",
        "[scores, best] = classification_demo(im, 0, '.');",
        "printf('%.9g ', scores); printf('\\n%d\\n', best);",
        "kept = load('matlab/+caffe/imagenet/ilsvrc_2012_mean.mat');",
        "disp(size(kept.mean_data)), disp(class(kept.mean_data))",
    )
    lines = said.splitlines()
    x = image[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) - mean[0]
    crops = [x[:, i : i + 227, j : j + 227] for i, j in ((0, 0), (0, 29), (29, 0), (29, 29))]
    crops.append(x[:, 14:241, 14:241])
    crops += [crop[:, :, ::-1] for crop in crops]
    wanted = net.forward_all(data=np.stack(crops))["prob"].mean(0)
    np.testing.assert_allclose([float(s) for s in lines[0].split()], wanted, rtol=1e-4, atol=1e-7)
    assert int(lines[1]) == wanted.argmax() + 1
    assert [line.split() for line in lines[2:]] == [["256", "256", "3"], ["single"]]


@pytest.mark.slow
def test_the_digits_example(tmp_path: Path) -> None:
    root = M_FILES.parent
    shutil.copytree(
        root / "examples" / "digits",
        tmp_path / "examples" / "digits",
        ignore=shutil.ignore_patterns("*_lmdb", "*.caffemodel", "*.solverstate"),
    )
    (tmp_path / "examples" / "matlab").mkdir()
    text = (root / "examples" / "matlab" / "lenet_digits.m").read_text()
    text = text.replace("iterations = 500", "iterations = 50")
    (tmp_path / "examples" / "matlab" / "lenet_digits.m").write_text(text)
    script = "examples/digits/make_data.py"
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True, capture_output=True)
    said = octave(tmp_path, "source examples/matlab/lenet_digits.m")
    assert "iteration 50: loss" in said
    assert (tmp_path / "examples" / "matlab" / "conv1.png").stat().st_size > 300
    assert (tmp_path / "examples" / "matlab" / "lenet_digits.caffemodel").is_file()


def test_the_names_of_faster_r_cnn(tmp_path: Path) -> None:
    (tmp_path / "n.prototxt").write_text(NET)
    (tmp_path / "s.prototxt").write_text(
        'net: "n.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 7 snapshot_prefix: "s"'
    )
    said = octave(
        tmp_path,
        "caffe.init_log('log_'); caffe.set_random_seed(3);",
        "s = caffe.Solver('s.prototxt'); s.max_iter()",
        "s.net.set_phase('test'); s.net.set_phase('train');",
        "s.snapshot(); s.snapshot('my.solverstate', 'my.caffemodel'); s.restore('my.solverstate');",
        "try, s.snapshot('a'), catch e, disp(e.message), end",
        "net = caffe.Net('n.prototxt', 'test'); x = rand(6, 5, 3);",
        "net.reshape_as_input({x}); net.set_input_data({x}); net.forward_prefilled();",
        "out = net.get_output(); disp(out.blob_name); disp(size(out.data))",
        "isequal(out.data, net.forward({[]}){1})",
        "net.reshape_as_input({[]}); net.set_params_data('c', 2, [4; 5]);",
        "other = caffe.Net('n.prototxt', 'test'); other.share_weights_with(net);",
        "disp(other.params('c', 2).get_data()')",
    )
    assert said.split() == [
        *("ans", "=", "7", "snapshot", "takes", "nothing,", "or", "the", "names", "of", "a"),
        *("state", "and", "of", "a", "model.", "p", "4", "3", "2", "ans", "=", "1", "4", "5"),
    ]
    assert list(tmp_path.glob("log_*"))
