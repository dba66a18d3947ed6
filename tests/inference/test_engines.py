from __future__ import annotations

import pytest
from tests.fresh import run_program

import moka
from moka.command.flags import ENGINES as FLAG
from moka.errors import UsageError
from moka.inference import engines
from moka.inference.engines import (
    BACKENDS,
    ENGINES,
    backends,
    chosen,
    engine_is,
    may_record,
    set_engine,
)


def test_names() -> None:
    assert set(ENGINES) == set(FLAG) == {"auto", "layerwise", "onnxruntime", "openvino", "torch"}
    assert moka.set_engine is set_engine


def test_the_engine_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_chosen", None)
    monkeypatch.delenv("MOKA_ENGINE", raising=False)
    assert chosen() == "auto"
    with engine_is("torch"):
        assert chosen() == "torch"
        assert [backend.name for backend in backends()] == ["torch"]
        set_engine("layerwise")
        assert not backends()
    assert chosen() == "auto"
    assert backends() == [backend for backend in BACKENDS if backend.is_installed()]


def test_training_can_be_told_not_to_be_recorded() -> None:
    for name, wanted in (("auto", True), ("layerwise", False), ("torch", True)):
        with engine_is(name):
            assert may_record() == wanted


def test_an_unknown_engine() -> None:
    with pytest.raises(UsageError, match='engine "onnx" is unknown') as caught:
        set_engine("onnx")
    assert "onnxruntime" in str(caught.value)


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(BACKENDS[1]), "is_installed", lambda _: False)
    with pytest.raises(UsageError, match="openvino is not installed"):
        set_engine("openvino")


@pytest.mark.parametrize(("value", "said"), [("torch", "torch"), ("", "auto"), ("fast", "MOKA_")])
def test_the_variable(value: str, said: str) -> None:
    program = "from moka.inference.engines import chosen; print(chosen())"
    done = run_program(program, variables={"MOKA_ENGINE": value, "PATH": ""})
    assert said in (done.stdout + done.stderr).decode()


def test_backends_are_imported_when_they_are_used() -> None:
    engines = {"onnx", "onnxruntime", "openvino", "moka.export.onnx.emit"}  # and the exporter
    program = f"import caffe, sys; print({engines} & set(sys.modules))"
    assert run_program(program).stdout == b"set()\n"
