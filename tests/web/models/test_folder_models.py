"""`caffe web` tries the models and runs of its folder, new snapshots included."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.serving.colors import RED, picture, write_model
from tests.web.models.test_found import write_run
from tests.web.sites import client_of


def test_models_that_appear_while_the_page_is_open(tmp_path: Path) -> None:
    with client_of(tmp_path) as client:
        assert client.get("/v1/models").json() == {"models": []}
        refused = client.post("/v1/classify", content=picture(RED))
        assert refused.status_code == 404
        write_model(tmp_path / "colors")
        write_run(tmp_path / "run", 10)
        os.utime(tmp_path / "colors" / "colors.caffemodel", (1, 1))
        names = [model["name"] for model in client.get("/v1/models").json()["models"]]
        assert names == ["run", "colors"]
        for name in names:
            answer = client.post(f"/v1/classify?model={name}", content=picture(RED))
            assert answer.json()["images"][0]["classes"][0]["index"] == 2
        before = client.get("/v1/models?model=run").json()
        assert (before["kind"], before["loaded"]) == ("classes", True)
        (tmp_path / "run" / "snapshot_iter_10.caffemodel").rename(
            tmp_path / "run" / "snapshot_iter_20.caffemodel"
        )
        loaded = {
            each["name"]: each["loaded"] for each in client.get("/v1/models").json()["models"]
        }
        assert loaded == {"run": False, "colors": True}  # another snapshot, so another model


def test_programs_ask_as_they_ask_caffe_serve(tmp_path: Path) -> None:
    write_model(tmp_path / "colors")
    with client_of(tmp_path) as client:
        program = {"X-Moka-CSRF": ""}
        asked = client.post("/v1/classify", content=picture(RED), headers=program)
        assert asked.status_code == 200
        foreign = program | {"Origin": "http://elsewhere.example"}
        assert client.post("/v1/classify", content=b"", headers=foreign).status_code == 403
        assert client.post("/api/try/pack", json={}, headers=program).status_code == 403


def test_a_run_is_packed_for_caffe_serve(tmp_path: Path) -> None:
    write_run(tmp_path / "jobs/run", 10)
    with client_of(tmp_path) as client:
        client.get("/v1/models")
        told = client.post("/api/try/pack", json={"model": "jobs/run"}).json()
        assert told["folder"] == "models/run"
        assert told["shell"] == f"cd {tmp_path} && caffe serve models/run"
        again = client.post("/api/try/pack", json={"model": "jobs/run"}).json()
        assert again["folder"] == "models/run-2"
        names = [model["name"] for model in client.get("/v1/models").json()["models"]]
        assert set(names) == {"jobs/run", "models/run", "models/run-2"}
        here, packed = (
            client.post(f"/v1/classify?model={name}", content=picture(RED)).json()["images"][0]
            for name in ("jobs/run", "models/run")
        )
        scores = [
            {found["label"]: found["score"] for found in answer.pop("classes")}
            for answer in (here, packed)
        ]
        assert here == packed
        assert scores[0] == pytest.approx(scores[1], rel=1e-4)  # each has its own engine
        assert client.post("/api/try/pack", json={"model": "../x"}).status_code == 400
