from __future__ import annotations

import pytest

from moka.report.records import FinalLoss, Record
from moka.report.relay import ListenerGoneError, Relay, Sender


def test_records_arrive_in_order_from_one_sender_after_the_other() -> None:
    heard: list[Record] = []
    with Relay([heard.append]) as relay:
        for begin in (0, 3):  # as after a restart
            sender = Sender(relay.address)
            for k in range(begin, begin + 3):
                sender(FinalLoss(k, 0.5))
            sender.close()
    assert heard == [FinalLoss(k, 0.5) for k in range(6)]


def test_nobody_need_send() -> None:
    with Relay([]):
        pass


def test_a_listener_that_fails_ends_the_sender() -> None:
    def fail(record: Record) -> None:
        raise KeyError(record)

    def send() -> None:
        with Relay([fail]) as relay:
            sender = Sender(relay.address)
            for k in range(10_000):
                sender(FinalLoss(k, 0.5))

    with pytest.raises(KeyError) as error:
        send()
    assert error.value.args == (FinalLoss(0, 0.5),)
    assert isinstance(error.value.__context__, ListenerGoneError)


def test_a_stranger_is_not_heard() -> None:
    heard: list[Record] = []
    with Relay([heard.append]) as relay:
        with pytest.raises(Exception, match="digest"):
            Sender(relay.address._replace(key=b"guessed"))
        sender = Sender(relay.address)
        sender(FinalLoss(1, 0.5))
        sender.close()
    assert heard == [FinalLoss(1, 0.5)]
