"""`caffe web` tries the models and runs of its folder, new snapshots included."""

from __future__ import annotations

import os
from pathlib import Path

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


def test_its_requests_are_guarded_like_all_others(tmp_path: Path) -> None:
    write_model(tmp_path / "colors")
    with client_of(tmp_path) as client:
        forged = client.post("/v1/classify", content=picture(RED), headers={"X-Moka-CSRF": "x"})
        assert forged.status_code == 403
