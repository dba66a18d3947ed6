"""The text that Prometheus reads."""

from __future__ import annotations

from moka.serving.metrics import BATCH_IMAGES, IMAGES, Metrics


def test_counters_histograms_and_gauges() -> None:
    metrics = Metrics()
    metrics.add(IMAGES, 3, model="a")
    metrics.add(IMAGES, 1_000_000, model="a")
    for size in (1, 3, 4, 100):
        metrics.observe(BATCH_IMAGES, size, model="a")
    metrics.gauge("waiting", "How many.", lambda: {(("model", 'a"\\\n'),): 7})
    lines = metrics.text().splitlines()
    assert "# TYPE moka_images_total counter" in lines
    assert 'moka_images_total{model="a"} 1000003' in lines
    assert "# TYPE moka_batch_images histogram" in lines
    counts = [line.split()[-1] for line in lines if line.startswith("moka_batch_images_bucket")]
    assert counts == ["1", "1", "3", "3", "3", "3", "3", "4"]
    assert 'moka_batch_images_bucket{model="a",le="4"} 3' in lines
    assert 'moka_batch_images_sum{model="a"} 108' in lines
    assert 'moka_batch_images_count{model="a"} 4' in lines
    assert lines[-2:] == ["# TYPE waiting gauge", 'waiting{model="a\\"\\\\\\n"} 7']
