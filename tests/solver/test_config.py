from __future__ import annotations

from pathlib import Path

import pytest

from moka.errors import SchemaError, SolverError
from moka.schema import caffe_pb2, parse_text
from moka.solver import config as solver_config
from moka.solver.config import NetToBuild, check_solver, read_solver, train_net

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST


def config(text: str) -> caffe_pb2.SolverParameter:
    return parse_text(text, caffe_pb2.SolverParameter)


def nets_to_test(text: str) -> list[NetToBuild]:
    return solver_config.test_nets(config(text), "s.prototxt")


@pytest.fixture(autouse=True)
def _net_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        Path(f"{name}.prototxt").write_text(f'name: "{name}"')


def test_a_file_is_read() -> None:
    Path("s.prototxt").write_text("base_lr: 0.5")
    message, file = read_solver("s.prototxt")
    assert (message.base_lr, file) == (0.5, "s.prototxt")


def test_a_message_is_copied_and_read_once() -> None:
    given = config("base_lr: 0.5")
    read = read_solver(given, "a/s.prototxt")
    assert given == config("base_lr: 0.5")
    assert read.message == config('base_lr: 0.5 snapshot_prefix: "a/s"')
    assert read_solver(read) is read


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("", "sub/lenet_solver"), ("out/snap", "out/snap"), ("out", "out/lenet_solver")],
)
def test_the_snapshot_prefix(given: str, wanted: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "moka")
    Path("out").mkdir()
    message = caffe_pb2.SolverParameter(snapshot_prefix=given)
    assert read_solver(message, "sub/lenet_solver.prototxt").message.snapshot_prefix == wanted
    said = [] if given else [f"snapshot_prefix was not specified and is set to {wanted}"]
    assert caplog.messages == said


def test_an_older_form_becomes_todays() -> None:
    Path("s.prototxt").write_text("base_lr: 0.5 solver_type: ADAM")
    for given in ("s.prototxt", config("base_lr: 0.5 solver_type: ADAM")):
        wanted = config('base_lr: 0.5 type: "Adam" snapshot_prefix: "s"')
        assert read_solver(given, "s.prototxt").message == wanted


def test_a_missing_file() -> None:
    with pytest.raises(SchemaError, match=r"File not found: gone\.prototxt"):
        read_solver("gone.prototxt")


@pytest.mark.parametrize(
    ("text", "name", "file", "said"),
    [
        (
            'net: "a.prototxt"',
            "a",
            "a.prototxt",
            "Creating training net from net file: a.prototxt",
        ),
        (
            'train_net: "b.prototxt"',
            "b",
            "b.prototxt",
            "Creating training net from train_net file: b.prototxt",
        ),
        (
            'net_param { name: "p" }',
            "p",
            "s.prototxt",
            "Creating training net specified in net_param.",
        ),
        (
            'train_net_param { name: "q" }',
            "q",
            "s.prototxt",
            "Creating training net specified in train_net_param.",
        ),
    ],
)
def test_the_net_to_train(text: str, name: str, file: str, said: str) -> None:
    found = train_net(config(text), "s.prototxt")
    assert (found.param.name, found.file, found.said) == (name, file, said)
    assert found.param.state.phase == TRAIN


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "found none"),
        ('net: "a.prototxt" train_net: "b.prototxt"', "found net, train_net"),
        ('net_param { name: "p" } net: "a.prototxt"', "found net, net_param"),
    ],
)
def test_one_net_to_train(text: str, says: str) -> None:
    with pytest.raises(SolverError, match=rf"s\.prototxt: .*must specify a train net.*{says}"):
        train_net(config(text), "s.prototxt")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('net: "a.prototxt"', []),
        ('net: "a.prototxt" test_iter: 1', [("a", "net file: a.prototxt")]),
        ('net_param { name: "p" } test_iter: 1', [("p", "net_param")]),
        (
            'train_net: "a.prototxt" test_net: "b.prototxt" test_net: "c.prototxt"'
            " test_iter: 1 test_iter: 2",
            [("b", "test_net file: b.prototxt"), ("c", "test_net file: c.prototxt")],
        ),
        (
            'net: "a.prototxt" test_net: "b.prototxt" test_net_param { name: "q" }'
            " test_iter: 1 test_iter: 2 test_iter: 3 test_iter: 4",
            [
                ("q", "test_net_param"),
                ("b", "test_net file: b.prototxt"),
                ("a", "net file: a.prototxt"),
                ("a", "net file: a.prototxt"),
            ],
        ),
    ],
)
def test_the_nets_to_test(text: str, wanted: list[tuple[str, str]]) -> None:
    found = nets_to_test(f"{text} test_interval: 10")
    assert [net.param.name for net in found] == [name for name, _ in wanted]
    assert [net.said for net in found] == [
        f"Creating test net (#{i}) specified by {said}" for i, (_, said) in enumerate(wanted)
    ]
    assert all(net.param.state.phase == TEST for net in found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('net: "a.prototxt" test_net: "b.prototxt"', "test_iter must be specified"),
        ('train_net: "a.prototxt" test_iter: 1', "test_iter must be specified"),
        (
            'train_net: "a.prototxt" test_net: "b.prototxt" test_iter: 1 test_iter: 1',
            "test_iter must be specified",
        ),
        (
            'net: "a.prototxt" test_iter: 1 test_iter: 1 test_state { level: 1 }',
            "once per test net: 1 for 2",
        ),
        ('net: "a.prototxt" test_iter: 1 test_interval: 0', "test_interval > 0"),
        ('net: "a.prototxt" test_iter: -1', "test_iter must be >= 0, got -1"),
    ],
)
def test_test_nets_that_do_not_fit(text: str, says: str) -> None:
    text = text if "test_interval" in text else f"{text} test_interval: 10"
    with pytest.raises(SolverError, match=rf"s\.prototxt: .*{says}"):
        nets_to_test(text)


def test_states_are_merged() -> None:
    """The net's own state first, then what the solver adds; the phase is fixed."""
    p = config(
        'net_param { state { phase: TEST level: 1 stage: "own" } }'
        ' train_state { stage: "more" } test_iter: 1 test_iter: 1 test_interval: 1'
        ' test_state { level: 5 } test_state { stage: "two" }'
    )
    train = train_net(p, "s.prototxt").param.state
    assert (train.phase, train.level, list(train.stage)) == (TRAIN, 1, ["own", "more"])
    one, two = (net.param.state for net in solver_config.test_nets(p, "s.prototxt"))
    assert (one.phase, one.level, list(one.stage)) == (TEST, 5, ["own"])
    assert (two.phase, two.level, list(two.stage)) == (TEST, 1, ["own", "two"])
    assert list(p.net_param.state.stage) == ["own"]  # the message itself is not changed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("iter_size: 0", "iter_size must be > 0, got 0"),
        ("larc_turbo: true", "larc_turbo needs larc: true"),
        ('momentum_policy: "magic"', "Unknown momentum_policy: magic"),
        ("clamp_weights_lower: 1 clamp_weights_upper: 0", "clamp_weights_lower must be <="),
        ("average_loss: 0", "average_loss must be > 0, got 0"),
        ("snapshot: -1", "snapshot must be >= 0, got -1"),
        ("snapshot_keep: -1", "snapshot_keep must be >= 0, got -1"),
        ('type: "Magic"', "Unknown solver type: Magic"),
        ('regularization_type: "L3"', "Unknown regularization type: L3"),
        ('lr_policy: "magic"', "Unknown learning rate policy: magic"),
        ('lr_policy: "plateau" gamma: 0.1', "lr_policy plateau needs plateau_winsize"),
        ("early_stop: 3", "early_stop needs snapshot_best"),
        ("test_with_ema: true", "test_with_ema needs ema_decay"),
        ('type: "Adam" larc: true', "larc works with type SGD"),
        *(
            (f"shard: true {name}: {value}", rf"do not go together: .*\s+Leave out shard or {name}")
            for name, value in (("larc", "true"), ("local_lr_auto", "true"), ("ema_decay", "0.9"))
        ),
        (
            "shard: true sparse_mode: SPARSE_UPDATE",
            r"do not go together: .*\s+Leave out shard or sparse_mode",
        ),
        ("sparsity_step_iter: 0", "sparsity_step_iter must be > 0"),
        ("insert_quantization_param: true", "insert_quantization_param is an option of a fork"),
    ],
)
def test_what_is_refused_before_training(text: str, says: str) -> None:
    p = config('lr_policy: "fixed"')
    check_solver(p, "s.prototxt")
    p.MergeFrom(config(text))
    with pytest.raises(SolverError, match=rf"s\.prototxt: .*{says}"):
        check_solver(p, "s.prototxt")
