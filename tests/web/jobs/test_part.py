"""The API of jobs, driven as the page drives it; jobs are `caffe train` processes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.processes import Program
from tests.web.sites import NET, client_of, make_database, wait_until

from moka.web.jobs import making, runner

FIELDS = {
    "base_lr": "0.1",
    "lr_policy": "fixed",
    "max_iter": "40",
    "display": "5",
    "test_iter": "2",
    "test_interval": "10",
    "snapshot": "20",
    "snapshot_best": "accuracy",
    "random_seed": "1",
}
PYTHON = 'layer { name: "x" type: "Python" top: "x" python_param { module: "os" layer: "no" } }'
WRITES = """
layer { name: "o" type: "HDF5Output" bottom: "ip" bottom: "label"
        hdf5_output_param { file_name: "x.h5" } }
"""


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.chdir(tmp_path)
    for module in (making, runner):
        monkeypatch.setattr(module, "start_caffe", Program)
    make_database(tmp_path / "db")
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "old.log").write_text(
        "I1129 08:31:22.0000001 1 a.cpp:1] x\n"
        "I1129 08:31:22.000000 1 a.cpp:1] Solving old\n"
        "I1129 08:31:22.000000 1 a.cpp:1] Iteration 0, loss = 3\n"
        "I1129 08:31:23.000000 1 a.cpp:1] Iteration 100, loss = 2\n"
    )
    with client_of(tmp_path) as client:
        yield client


def ok(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(answer: Any) -> str:
    assert answer.status_code == 400, answer.text
    said: str = answer.json()["error"]
    return said


def runs(browser: TestClient) -> dict[str, Any]:
    return {run["id"]: run for run in ok(browser.get("/api/jobs/list"))["runs"]}


def make(browser: TestClient, **more: Any) -> list[str]:
    values = {"fields": FIELDS, "net": "net.prototxt", "start": False, **more}
    ids: list[str] = ok(browser.post("/api/jobs/make", json=values))["ids"]
    return ids


def run(browser: TestClient, name: str) -> Any:
    return ok(browser.get("/api/jobs/run", params={"id": name}))


def test_a_job_from_the_form_to_the_end_and_on_from_its_snapshot(
    browser: TestClient, tmp_path: Path
) -> None:
    (name,) = make(browser, start=True, title="First")
    done = wait_until(lambda: (r := run(browser, name))["status"] == "finished" and r)
    assert (done["iteration"], done["max_iter"], done["epochs"]) == (40, 40, 10.0)
    assert {s["iteration"] for s in done["snapshots"] if not s["is_best"]} == {20, 40}
    assert done["best"]["output"] == "accuracy"
    assert "caffe train --solver=jobs/first/solver.prototxt" in done["shell"]

    curves = ok(browser.get("/api/jobs/curves", params={"runs": f"{name},old.log", "points": 3}))
    ours, old = curves["runs"]
    series = {s["name"]: s for s in ours["series"]}
    assert series["test:accuracy"]["iterations"][-1] == 40
    assert len(series["loss"]["y"]) == 3
    assert ours["per_epoch"] == 4
    assert [m["kind"] for m in ours["marks"]] == ["best"]
    assert old["series"][0]["y"] == [3, 2]
    asked = {"runs": name, "smooth": "0.9"}
    (smooth,) = ok(browser.get("/api/jobs/curves", params=asked))["runs"]
    smoothed = {s["name"]: s for s in smooth["series"]}
    assert smoothed["loss"]["y"] != smoothed["loss"]["low"]
    assert smoothed["test:loss"]["low"] == []  # a test is a mean already

    text = browser.get("/api/jobs/csv", params={"runs": name}).text
    rows = list(csv.DictReader(io.StringIO(text)))
    last = [row for row in rows if row["name"] == "test:accuracy"][-1]
    assert (last["iteration"], last["epoch"]) == ("40", "10")

    solver = tmp_path / name / "solver.prototxt"
    solver.write_text(solver.read_text().replace("max_iter: 40", "max_iter: 60"))
    ok(browser.post("/api/jobs/start", json={"id": name, "snapshot": "auto"}))
    again = wait_until(lambda: (r := run(browser, name))["iteration"] == 60 and r)
    assert again["max_iter"] == 60
    log = ok(browser.get("/api/jobs/log", params={"id": name}))["text"]
    assert "Resuming from jobs/first/snapshot_iter_40.solverstate" in log

    like = ok(browser.get("/api/jobs/form", params={"like": name}))["start"]
    assert (like["fields"]["max_iter"], like["origin"]) == ("60", name)


def test_a_job_that_fails_says_why(browser: TestClient, tmp_path: Path) -> None:
    (name,) = make(browser, title="Fails", fields=FIELDS | {"snapshot_best": "precision"})
    ok(browser.post("/api/jobs/start", json={"id": name}))
    failed = wait_until(lambda: (r := run(browser, name))["status"] == "failed" and r)
    assert "no test net has an output precision" in failed["why"]


def test_logs_of_other_programs_are_runs(browser: TestClient) -> None:
    old = wait_until(lambda: runs(browser).get("old.log"))
    assert (old["net"], old["iteration"], old["loss"]) == ("old", 100, 2)
    assert not old["is_job"]
    assert refusal(browser.post("/api/jobs/stop", json={"id": "old.log", "how": "now"}))


def test_a_log_of_nvcaffe_is_a_run(browser: TestClient, tmp_path: Path) -> None:
    """Its lines have speed, epochs and more than a rate; its snapshots lie beside it."""
    lines = [
        "caffe.cpp:184] Starting Optimization",
        "solver.cpp:263] Solving GoogLeNet",
        "solver.cpp:264] Learning Rate Policy: poly",
        "solver.cpp:353] Iteration 0 (0.8 s), loss = 6.9",
        "solver.cpp:371]     Train net output #0: loss = 6.9 (* 1 = 6.9 loss)",
        "sgd_solver.cpp:170] Iteration 0, lr = 0.02, m = 0.9, wd = 0.0002, gs = 1",
        "solver.cpp:347] Iteration 50 (2.25 iter/s, 22.2s/50 iter), 1/2ep, loss = 4.5",
        "sgd_solver.cpp:170] Iteration 50, lr = 0.01, m = 0.9, lrm = 0.1, wd = 0.0002, gs = 1",
        "solver.cpp:635] Snapshotting to binary proto file runs/g_iter_100.caffemodel",
        "sgd_solver.cpp:398] Snapshotting solver state to binary proto file"
        " runs/g_iter_100.solverstate",
        "solver.cpp:537] Iteration 100, Testing net (#0)",
        "solver.cpp:622]     Test net output #0: accuracy = 0.75",
        "caffe.cpp:268] Solver performance on device 0: 2.25 * 32 = 72 img/sec",
        "caffe.cpp:272] Optimization Done in 1m 2s",
    ]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/g_iter_100.caffemodel").write_bytes(b"x" * 9)
    text = "".join(f"I0306 10:27:{i:02d}.000000 13326 {line}\n" for i, line in enumerate(lines))
    (tmp_path / "runs/nv.log").write_text(f"max_iter: 100\n{text}")
    found = wait_until(lambda: runs(browser).get("runs/nv.log"))
    assert (found["status"], found["net"], found["policy"]) == ("finished", "GoogLeNet", "poly")
    assert (found["iteration"], found["max_iter"], found["loss"]) == (100, 100, 4.5)
    assert found["tests"] == {"accuracy": 0.75}
    (snapshot,) = run(browser, "runs/nv.log")["snapshots"]
    assert (snapshot["iteration"], snapshot["model"]) == (100, "runs/g_iter_100.caffemodel")
    (curves,) = ok(browser.get("/api/jobs/curves", params={"runs": "runs/nv.log"}))["runs"]
    series = {each["name"]: each["y"] for each in curves["series"]}
    assert (series["loss"], series["rate"]) == ([6.9, 4.5], [0.02, 0.01])


def test_a_sweep(browser: TestClient, tmp_path: Path) -> None:
    fields = FIELDS | {"base_lr": "0.1, 0.01", "iter_size": "2"}
    names = make(browser, title="Sweep", fields=fields, workers="2")
    assert names == ["jobs/sweep-base_lr-0.1", "jobs/sweep-base_lr-0.01"]
    texts = [(tmp_path / name / "solver.prototxt").read_text() for name in names]
    assert ["base_lr: 0.1\n" in texts[0], "base_lr: 0.01\n" in texts[1]] == [True, True]
    first = run(browser, names[0])
    assert first["title"] == "Sweep (base_lr 0.1)"
    assert "--workers=2" in first["shell"]
    assert first["epoch"] == [20, 20]  # two processes, two batches each, five records in a batch
    like = ok(browser.get("/api/jobs/form", params={"like": names[0]}))["start"]
    assert like["devices"] == {"workers": "2"}


def test_the_names_of_the_classes_lie_beside_a_job(browser: TestClient, tmp_path: Path) -> None:
    (name,) = make(browser)
    assert not (tmp_path / name / "labels.txt").exists()
    (tmp_path / "labels.txt").write_text("cat\ndog\nemu\n")  # beside the database
    (name,) = make(browser)
    assert (tmp_path / name / "labels.txt").read_text() == "cat\ndog\nemu\n"
    (name,) = make(browser, classes="5")
    assert not (tmp_path / name / "labels.txt").exists()  # they are names of other classes


def test_the_preview(browser: TestClient) -> None:
    values = {"fields": FIELDS, "net": "net.prototxt"}
    shown = ok(browser.post("/api/jobs/preview", json=values))
    assert shown["problem"] == ""
    assert shown["net_problems"] == []
    assert shown["epoch"] == {"records": 20, "taken": 5}
    assert shown["epochs"]["max_iter"] == 10
    two = ok(browser.post("/api/jobs/preview", json=values | {"workers": "2"}))
    assert two["epochs"]["max_iter"] == 20
    both = ok(browser.post("/api/jobs/preview", json=values | {"workers": "2", "gpu": "0"}))
    assert "not both" in both["problem"]
    assert len(shown["rates"]) == 40
    wrong = ok(browser.post("/api/jobs/preview", json={"fields": {"lr_policy": "stp"}}))
    assert 'Did you mean "step"' in wrong["problem"]


def test_a_check_says_what_a_job_needs(browser: TestClient, tmp_path: Path) -> None:
    values = {"fields": FIELDS, "net": "net.prototxt"}
    told = ok(browser.post("/api/jobs/check", json=values))
    assert told["ok"], told
    assert "Memory:" in told["text"]
    assert "No problem was found." in told["text"]
    assert list((tmp_path / ".moka/check").iterdir()) == []
    wrong = values | {"fields": FIELDS | {"snapshot_best": "precision"}}
    told = ok(browser.post("/api/jobs/check", json=wrong))
    assert not told["ok"]
    assert any("precision" in problem for problem in told["problems"])


def test_a_pasted_net_is_read_with_its_line(browser: TestClient) -> None:
    values = {"fields": FIELDS, "net_text": 'name: "x"\nlayer { typ: "ReLU" }'}
    (said,) = ok(browser.post("/api/jobs/preview", json=values))["net_problems"]
    assert "2:" in said
    assert "typ" in said


@pytest.mark.parametrize(("more", "fact"), [(PYTHON, "runs code"), (WRITES, "writes files")])
def test_a_pasted_net_runs_no_code_and_writes_nothing(
    browser: TestClient, tmp_path: Path, more: str, fact: str
) -> None:
    values = {"fields": FIELDS, "net_text": NET + more}
    (said,) = ok(browser.post("/api/jobs/preview", json=values))["net_problems"]
    assert fact in said
    assert fact in refusal(browser.post("/api/jobs/make", json=values))
    assert not (tmp_path / "jobs").exists()


def test_other_data_and_classes(browser: TestClient, tmp_path: Path) -> None:
    make_database(tmp_path / "other", 6)
    (name,) = make(browser, train_data="other", test_data="other", classes="5")
    net = (tmp_path / name / "net.prototxt").read_text()
    assert 'source: "other"' in net
    assert "num_output: 5" in net
    assert 'name: "ip_5"' in net


def test_a_reference_model(browser: TestClient, tmp_path: Path) -> None:
    data = {"train_data": "db", "test_data": "db"}
    values = {"fields": FIELDS, "net": "standard:nin", **data}
    shown = ok(browser.post("/api/jobs/preview", json=values))
    assert shown["net_name"]
    assert "there is no reference model" in str(
        ok(browser.post("/api/jobs/preview", json=values | {"net": "standard:../x"}))
    )


def test_rename_delete_and_undo(browser: TestClient) -> None:
    (name,) = make(browser, title="One")
    ok(browser.post("/api/jobs/rename", json={"id": name, "title": "Two"}))
    assert run(browser, name)["title"] == "Two"
    undo = ok(browser.post("/api/jobs/delete", json={"id": name}))["undo"]
    assert name not in runs(browser)
    assert ok(browser.post("/api/jobs/restore", json={"undo": undo}))["id"] == name
    assert runs(browser)[name]["title"] == "Two"


@pytest.mark.parametrize(
    "values",
    [
        {"net": "../net.prototxt"},
        {"net": "net.prototxt", "weights": "/etc/passwd"},
        {"net": "net.prototxt", "train_data": "../db"},
        {"net": ""},
        {"net": "net.prototxt", "fields": {"base_lr": "x"}},
    ],
)
def test_forms_that_are_refused(browser: TestClient, tmp_path: Path, values: Any) -> None:
    assert refusal(browser.post("/api/jobs/make", json={"fields": FIELDS, **values}))
    assert not (tmp_path / "jobs").exists()


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("run", {"id": "../old.log"}),
        ("run", {}),
        ("curves", {"runs": "nothing"}),
        ("curves", {"runs": "old.log", "smooth": "1"}),
        ("curves", {"runs": "old.log", "points": "1e9"}),
        ("curves", {"runs": ",".join(["old.log"] * 25)}),
        ("log", {"id": "db"}),
    ],
)
def test_questions_that_are_refused(browser: TestClient, path: str, values: Any) -> None:
    assert refusal(browser.get(f"/api/jobs/{path}", params=values))


def test_events_come_as_runs_change(browser: TestClient) -> None:
    make(browser, title="One")
    with browser.stream("GET", "/api/jobs/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        first = next(line for line in answer.iter_lines() if line.startswith("data: "))
    assert "jobs/one" in first
