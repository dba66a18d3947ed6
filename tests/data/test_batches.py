"""Batches, from examples in memory. What databases and lists do is tested in files of their own."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import pytest
import torch

from moka.data.ahead import THREADS
from moka.data.batches import Batch, ImageBatches, Loaded
from moka.data.feed import Feed
from moka.data.place import EVERYTHING, ORDER, CursorState, Share, first_state, generator
from moka.data.transform import Transform
from moka.errors import DataError
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

COUNT = 7
IMAGES = np.random.default_rng(1).integers(0, 256, (COUNT, 1, 6, 6), np.uint8)


class Shelf:
    """Examples in memory, numbered, with ten times their number as label."""

    path = "shelf"
    noun = "book"

    def __init__(self, images: Sequence[Array] = tuple(IMAGES), shuffle: bool = False) -> None:
        self.images = images
        self.shuffle = shuffle

    def records(self, start: int, seed: int | None, step: int = 1) -> Iterator[int]:
        for i in itertools.count(start, step):
            epoch, k = divmod(i, COUNT)
            yield int(generator(seed, ORDER, epoch).permutation(COUNT)[k]) if self.shuffle else k

    def load(self, records: Sequence[int]) -> Loaded:
        return Loaded([self.images[i] for i in records], [10 * i for i in records])

    def name(self, record: int) -> str:
        return f"no. {record}"


def make_batches(
    text: str = "",
    *,
    size: int = 3,
    shelf: Shelf | None = None,
    start: CursorState | None = None,
) -> ImageBatches[int]:
    shelf = shelf or Shelf()
    transform = Transform(parse_text(text, caffe_pb2.TransformationParameter), training=True)
    is_random = transform.is_random or shelf.shuffle
    start = start or first_state(is_random=is_random)
    return ImageBatches(shelf, transform, batch_size=size, start=start)


def take(
    batches: ImageBatches[int],
    count: int,
    after: CursorState | None = None,
    share: Share = EVERYTHING,
    on_device: bool = False,
) -> list[tuple[Batch, CursorState]]:
    return list(islice(batches.stream(after or batches.start, share, on_device=on_device), count))


@pytest.mark.parametrize("size", [1, 3, 7, 10])
def test_images_come_in_order_and_start_over(size: int) -> None:
    got = take(make_batches(size=size), 5)
    for k, ((data, labels, *_), state) in enumerate(got):
        picked = [(k * size + i) % COUNT for i in range(size)]
        np.testing.assert_array_equal(data, IMAGES[picked])
        np.testing.assert_array_equal(labels, [10 * i for i in picked])
        assert data.dtype == labels.dtype == np.float32
        assert state == CursorState(records_read=(k + 1) * size)


@pytest.mark.parametrize(
    "text", ["", "crop_size: 3", "mirror: true", "crop_size: 3 mirror: true mean_value: 7"]
)
@pytest.mark.parametrize("resume_at", [0, 1, 4])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_stream_goes_on_exactly_where_it_was(text: str, resume_at: int, shuffle: bool) -> None:
    straight = take(make_batches(text, shelf=Shelf(shuffle=shuffle)), 12)
    _, state = straight[resume_at]
    torch.manual_seed(99)  # so that what is drawn comes from the state
    resumed = take(make_batches(text, shelf=Shelf(shuffle=shuffle)), 12 - resume_at - 1, state)
    for (wanted, wanted_state), (got, got_state) in zip(
        straight[resume_at + 1 :], resumed, strict=True
    ):
        for a, b in zip(wanted[:2], got[:2], strict=True):
            np.testing.assert_array_equal(a, b)
        assert got_state == wanted_state


def test_a_state_without_a_seed_gets_one() -> None:
    """As in a snapshot of a run whose data was not random yet."""
    batches = make_batches("mirror: true")
    ((_, state),) = take(batches, 1, CursorState(3))
    assert state == CursorState(6, batches.start.seed)
    assert batches.start.seed is not None


def test_random_streams_follow_the_seed() -> None:
    def drawn(seed: int) -> Array:
        torch.manual_seed(seed)
        return take(make_batches("crop_size: 3 mirror: true", size=7), 1)[0][0].data

    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))


def test_each_batch_draws_anew() -> None:
    got = take(make_batches("crop_size: 3 mirror: true", size=7), 6)
    assert len({batch.data.tobytes() for batch, _ in got}) == 6


def test_crops_and_mirrors_are_of_their_images() -> None:
    ((data, *_), _), *_ = take(make_batches("crop_size: 3 mirror: true", size=7), 1)
    for i in range(7):
        windows = [IMAGES[i, 0, y : y + 3, x : x + 3] for y in range(4) for x in range(4)]
        found = [np.array_equal(data[i, 0], w[:, ::s]) for w in windows for s in (1, -1)]
        assert any(found)


def test_image_shape_is_that_of_the_first_image_read() -> None:
    images = [np.zeros((1, 6 + i, 6), np.uint8) for i in range(COUNT)]
    assert make_batches("crop_size: 4").image_shape == (1, 4, 4)
    start = CursorState(COUNT + 2)
    assert make_batches(shelf=Shelf(images), start=start).image_shape == (1, 8, 6)


def test_sizes_may_change_between_batches() -> None:
    images = [np.zeros((1, 6 + i // 2, 6), np.uint8) for i in range(COUNT)]
    got = take(make_batches(size=2, shelf=Shelf(images)), 2)
    assert [batch.data.shape for batch, _ in got] == [(2, 1, 6, 6), (2, 1, 7, 6)]


@pytest.mark.parametrize("odd", [4, 5])  # the second and the last of a batch
def test_images_of_other_sizes_are_named(odd: int) -> None:
    images = [*IMAGES[:odd], np.zeros((1, 9, 9), np.uint8), *IMAGES[odd + 1 :]]
    says = (
        rf'^shelf: book "no. {odd}": its image is \(1, 9, 9\), that of "no. 3" .* is'
        r" \(1, 6, 6\)\.\s+Give crop_size, resize the images, or use batch_size: 1"
    )
    with pytest.raises(DataError, match=says):
        take(make_batches(shelf=Shelf(images)), 2)


def test_an_image_too_small_for_the_crop_is_named() -> None:
    images = [*IMAGES[:4], np.zeros((1, 3, 3), np.uint8), *IMAGES[5:]]
    with pytest.raises(DataError, match=r'^shelf: book "no. 4": crop_size 4'):
        take(make_batches("crop_size: 4", shelf=Shelf(images)), 2)


def test_a_first_image_that_does_not_fit_is_named_at_once() -> None:
    with pytest.raises(DataError, match=r'^shelf: book "no. 0": crop_size 9'):
        make_batches("crop_size: 9")


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_names_of_the_batch_before_a_state(shuffle: bool) -> None:
    batches = make_batches(shelf=Shelf(shuffle=shuffle), start=CursorState(2, 5))
    assert batches.names(CursorState()) == []
    for (_, labels, *_), state in take(batches, 6):
        assert batches.names(state) == [f"no. {label / 10:g}" for label in labels]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("size", [2, 3, 9])
def test_shares_are_parts_of_the_whole(shuffle: bool, size: int) -> None:
    shelf = Shelf(shuffle=shuffle)
    whole = take(make_batches(size=2 * size, shelf=shelf, start=CursorState(1, 5)), 6)
    for rank in range(size):
        batches = make_batches(size=2, shelf=shelf, start=CursorState(1, 5))
        share = Share(rank, size)
        part = take(batches, 6, share=share)
        for (wanted, wanted_state), (got, state) in zip(whole, part, strict=True):
            np.testing.assert_array_equal(got.labels, wanted.labels[rank::size])
            assert state == wanted_state
            assert batches.names(state, share) == [f"no. {x / 10:g}" for x in got.labels]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_share_may_be_whole_batches(shuffle: bool) -> None:
    """Of three processes each has every third batch of two images."""
    shelf, start = Shelf(shuffle=shuffle), CursorState(1, 5)
    whole = take(make_batches(size=2, shelf=shelf, start=start), 9)
    for rank in range(3):
        batches = make_batches(size=2, shelf=shelf, start=start)
        part = take(batches, 3, share=Share(rank, 3, whole_batches=True))
        for (wanted, _), (got, _) in zip(whole[rank::3], part, strict=True):
            np.testing.assert_array_equal(got.labels, wanted.labels)
        assert [state for _, state in part] == [state for _, state in whole[2::3]]


def test_each_share_draws_for_itself() -> None:
    images = [IMAGES[0]] * COUNT
    drawn = set()
    for rank in range(3):
        batches = make_batches("crop_size: 3", size=7, shelf=Shelf(images), start=CursorState(0, 5))
        drawn.add(take(batches, 1, share=Share(rank, 3))[0][0].data.tobytes())
    assert len(drawn) == 3


@pytest.mark.parametrize("text", ["", "crop_size: 4 mirror: true mean_value: 7 scale: 0.5"])
def test_the_arithmetic_may_be_left_to_the_reader(text: str) -> None:
    wanted, left = (make_batches(text, start=CursorState(0, 5)) for _ in range(2))
    for (whole, _), (half, _) in zip(take(wanted, 4), take(left, 4, on_device=True), strict=True):
        assert half.data.dtype == np.uint8
        assert half.draw is not None
        got = left.transform.normalize_tensor(torch.from_numpy(half.data), half.draw)
        np.testing.assert_array_equal(got, whole.data)
        np.testing.assert_array_equal(half.labels, whole.labels)


def test_batches_are_made_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)  # each waits for the other

    class Slow(Shelf):
        def load(self, records: Sequence[int]) -> Loaded:
            if len(records) > 1:
                both.wait()
            return super().load(records)

    assert len(take(make_batches(shelf=Slow()), 2)) == 2


def test_an_error_while_reading_comes_after_the_batches_before() -> None:
    class Torn(Shelf):
        def records(self, start: int, seed: int | None, step: int = 1) -> Iterator[int]:
            yield from range(7)
            raise DataError("torn", file=self.path)

    stream = make_batches(shelf=Torn(), size=2).stream(CursorState())
    assert [next(stream)[0].labels.tolist() for _ in range(3)] == [[0, 10], [20, 30], [40, 50]]
    with pytest.raises(DataError, match="shelf: torn"):
        next(stream)


@pytest.mark.parametrize("prefetch", [1, 4])
def test_memory_is_bounded_by_prefetch_and_workers(prefetch: int) -> None:
    loads: list[int] = []

    class Counted(Shelf):
        def load(self, records: Sequence[int]) -> Loaded:
            loads.append(len(records))
            return super().load(records)

    batches = make_batches(shelf=Counted())
    feed = Feed(lambda: batches.stream(batches.start), prefetch)
    feed.next()
    loads.clear()
    for _ in range(10):
        feed.next()
    end = time.monotonic() + 0.3  # for threads that would go on
    while time.monotonic() < end:
        assert len(loads) <= 10 + prefetch + THREADS
        time.sleep(0.01)
    feed.close()
