"""VideoData: clips of many videos, or the frames of one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from moka.checks.stand_in import build
from moka.data.place import CursorState
from moka.engine.layerwise import Layerwise
from moka.errors import MokaError
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net import Net, build_net
from moka.schema import caffe_pb2, parse_text
from moka.types import Array


@pytest.fixture(autouse=True)
def _videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of 6 frames of 4 x 6 in random colors, a video of 5 gray frames, list.txt."""
    monkeypatch.chdir(tmp_path)
    Path("frames").mkdir()
    rng = np.random.default_rng(0)
    for k in range(1, 7):
        cv2.imwrite(f"frames/{k:06}.png", rng.integers(0, 256, (4, 6, 3)).astype(np.uint8))
    writer = cv2.VideoWriter("video.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10, (24, 16))
    for k in range(5):
        writer.write(np.full((16, 24, 3), 10 + 30 * k, np.uint8))
    writer.release()
    Path("list.txt").write_text("frames 1 7\nframes 4 8\n")


def frame(number: int) -> Array:
    pixels = cv2.imread(f"frames/{number:06}.png")
    assert pixels is not None
    return pixels.transpose(2, 0, 1)


def net_of(fields: str, rest: str = "", *, phase: caffe_pb2.Phase = caffe_pb2.TEST) -> Net:
    text = (
        'layer { name: "data" type: "VideoData" top: "data" top: "label"'
        f" video_data_param {{ {fields} }} {rest} }}"
    )
    return build_net(parse_text(text, caffe_pb2.NetParameter), phase)


def test_clips() -> None:
    net = net_of(
        'source: "list.txt" batch_size: 2 new_length: 3', "transform_param { mean_value: 9 }"
    )
    Layerwise(net).forward()
    data = net.blobs["data"].data
    assert data.shape == (2, 3, 3, 4, 6)
    for n, start in enumerate((1, 4)):
        for t in range(3):
            np.testing.assert_array_equal(data[n, :, t], frame(start + t).astype(np.float32) - 9)
    assert net.blobs["label"].data.tolist() == [7, 8]
    net.close()


def test_the_frames_of_a_clip_are_cropped_and_mirrored_alike() -> None:
    net = net_of(
        'source: "list.txt" batch_size: 16 new_length: 2 shuffle: true',
        "transform_param { crop_size: 3 mirror: true }",
        phase=caffe_pb2.TRAIN,
    )
    Layerwise(net).forward()
    data, labels = net.blobs["data"].data, net.blobs["label"].data
    seen = set()
    for clip, label in zip(data, labels, strict=True):
        first = 1 if label == 7 else 4
        places = [
            (top, left, flip)
            for top in range(2)
            for left in range(4)
            for flip in (1, -1)
            if all(
                np.array_equal(
                    clip[:, t], frame(first + t)[:, top : top + 3, left : left + 3][:, :, ::flip]
                )
                for t in range(2)
            )
        ]
        assert len(places) == 1
        seen |= set(places)
    assert len(seen) > 4
    net.close()


def test_running_frames() -> None:
    net = net_of(
        'video_type: VIDEO video_file: "video.avi" skip_frames: 1 new_height: 4 new_width: 5',
        "data_param { batch_size: 2 }",
    )
    engine = Layerwise(net)
    found = []
    for _ in range(3):
        engine.forward()
        data = net.blobs["data"].data
        assert data.shape == (2, 3, 4, 5)
        found += [round((float(image.mean()) - 10) / 30) for image in data]
    assert found == [0, 2, 4, 0, 2, 4]
    assert net.blobs["label"].data.tolist() == [0, 0]
    net.close()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("video_type: VIDEO", "video_file is missing"),
        ('video_type: VIDEO video_file: "none.avi"', "Could not open the video none.avi"),
        ("device_id: 77", "Could not open camera 77"),
        ('source: "list.txt" new_length: 4', "line 2: frames ends before frame 7"),
        ('source: "list.txt" new_height: 4', "new_height and new_width go together"),
        ('source: "list.txt" num_segments: 3', "line 1: Could not load frames/flow_x_0002.jpg"),
        ('source: "list.txt" mirror: true', "{ mirror } is not supported"),
        (
            'source: "list.txt" modality: RGB name_pattern: "image.jpg"',
            'name_pattern "image.jpg" is no pattern of a number, such as "image_%04d.jpg"',
        ),
        (
            'source: "list.txt" name_pattern: "%04d.jpg"',
            'name_pattern "%04d.jpg" is no pattern of x or y and a number',
        ),
        ("num_segments: 3", "has no source"),
    ],
)
def test_bad_input(fields: str, message: str) -> None:
    with pytest.raises(MokaError, match=message):
        Layerwise(net_of(f"{fields} batch_size: 2")).forward()


def test_missing_videos_are_known_before() -> None:
    net = net_of('source: "list.txt" new_length: 3 root_folder: "./"')
    ((_, source),) = net.sources
    assert source.later_files() == ["./frames", "./frames"]
    net.close()


def test_a_net_of_c3d() -> None:
    """In V1's spelling, with everything in image_data_param."""
    text = """
    layers { name: "data" type: VIDEO_DATA top: "data" top: "label" image_data_param {
      source: "list.txt" use_image: true batch_size: 1 crop_size: 2 mirror: false show_data: 0
      new_height: 4 new_width: 6 new_length: 2 sampling_rate: 2 scale: 0.5 } }
    """
    net = build_net(parse_text(text, caffe_pb2.NetParameter), caffe_pb2.TEST)
    Layerwise(net).forward()
    want = np.stack([frame(1), frame(3)], 1)[:, :, 1:3, 2:4] * 0.5
    np.testing.assert_array_equal(net.blobs["data"].data, want[None])
    net.close()


def test_segments_of_videos() -> None:
    Path("videos.txt").write_text("frames 6 7\nframes 6 8\n")
    net = net_of(
        'source: "videos.txt" batch_size: 2 num_segments: 3 modality: RGB name_pattern: "%06d.png"',
        "transform_param { mean_value: 1 mean_value: 2 mean_value: 3 scale: 0.5 }",
    )
    Layerwise(net).forward()
    data = net.blobs["data"].data
    assert data.shape == (2, 9, 4, 6)
    mean = np.array([1, 2, 3], np.float32)[:, None, None]
    wanted = [(frame(k).astype(np.float32) - mean) * 0.5 for k in (2, 4, 6)]
    for video in data:
        np.testing.assert_array_equal(video, np.concatenate(wanted))
    assert net.blobs["label"].data.tolist() == [7, 8]
    net.close()


def test_segments_of_motion() -> None:
    Path("flow").mkdir()
    for k in range(1, 5):
        for axis, level in (("x", 10 * k), ("y", 100 + k)):
            pixels = np.full((4, 6), level, np.uint8)
            cv2.imwrite(f"flow/flow_{axis}_{k:04}.jpg", pixels)
    Path("videos.txt").write_text("flow 4 7\n")
    net = net_of(
        'source: "videos.txt" batch_size: 1 num_segments: 2 new_length: 2',
        "transform_param { mean_value: 128 is_flow: true }",
    )
    Layerwise(net).forward()
    got = net.blobs["data"].data[0, :, 0, 0] + 128
    np.testing.assert_allclose(got, [10, 101, 20, 102, 30, 103, 40, 104], atol=1)
    net.close()


def test_places_in_segments_are_drawn_from_the_seed() -> None:
    Path("videos.txt").write_text("frames 6 7\nframes 5 8\n")

    def passes(count: int, skipped: int = 0) -> list[Array]:
        net = net_of(
            'source: "videos.txt" batch_size: 4 num_segments: 2 modality: RGB name_pattern:'
            ' "%06d.png" shuffle: true',
            "transform_param { crop_size: 3 mirror: true multi_scale: true fix_crop: true"
            " scale_ratios: 1 scale_ratios: 0.75 }",
            phase=caffe_pb2.TRAIN,
        )
        ((_, source),) = net.sources
        source.load_state(CursorState(seed=3, records_read=4 * skipped))
        engine, found = Layerwise(net), []
        for _ in range(count):
            engine.forward()
            found.append(net.blobs["data"].data.copy())
        net.close()
        return found

    all_of_them = passes(4)
    assert len({each.tobytes() for batch in all_of_them for each in batch}) > 8
    for got, wanted in zip(passes(2, skipped=2), all_of_them[2:], strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_running_frames_are_resized_as_ssd_does() -> None:
    net = net_of(
        'video_type: VIDEO video_file: "video.avi"',
        "data_param { batch_size: 2 } transform_param { resize_param { height: 6 width: 5 } }",
    )
    Layerwise(net).forward()
    assert net.blobs["data"].data.shape == (2, 3, 6, 5)
    net.close()


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        (
            'video_data_param { source: "gone" batch_size: 2 num_segments: 3 modality: RGB }'
            " transform_param { crop_size: 8 mean_value: 1 mean_value: 2 mean_value: 3 }",
            (2, 9, 8, 8),
        ),
        (
            'video_data_param { source: "gone" batch_size: 2 num_segments: 3 new_length: 5 }'
            " transform_param { crop_size: 8 }",
            (2, 30, 8, 8),
        ),
        (
            'image_data_param { source: "gone" batch_size: 2 new_length: 16 crop_size: 8 }',
            (2, 3, 16, 8, 8),
        ),
        (
            'video_data_param { video_type: VIDEO video_file: "gone" } data_param { batch_size: 2 }'
            " transform_param { resize_param { height: 8 width: 9 } }",
            (2, 3, 8, 9),
        ),
    ],
)
def test_a_net_without_its_videos(fields: str, shape: tuple[int, ...]) -> None:
    text = f'layer {{ name: "data" type: "VideoData" top: "data" top: "label" {fields} }}'
    net = build(build_graph(parse_text(text, caffe_pb2.NetParameter), REGISTRY)).net
    assert tuple(net.blobs["data"].shape) == shape
    assert tuple(net.blobs["label"].shape) == (2,)
