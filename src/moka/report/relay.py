"""The records of a run in another process, told to listeners in this one."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from types import TracebackType
from typing import NamedTuple, Self

from moka.report.records import Listener as Hearer
from moka.report.records import Record


class Address(NamedTuple):
    """Where a `Relay` listens, and the key that it asks for."""

    place: str
    key: bytes


class ListenerGoneError(Exception):
    """Nobody hears the records any more: a listener has failed, or its process has ended."""


class Relay:
    """While it is entered, calls listeners with what a `Sender` in another process sends.

    They are called one after the other in a thread of the relay. A process that is killed and
    started again connects anew. When a listener fails, nothing more is heard; leaving the relay
    raises its error.

    Args:
        listeners: called with each record.

    Attributes:
        address: for the sender.
    """

    def __init__(self, listeners: Sequence[Hearer]) -> None:
        self._listeners = listeners
        self._error: BaseException | None = None
        key = os.urandom(32)
        self._socket = Listener(authkey=key)
        self.address = Address(str(self._socket.address), key)
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._is_over = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over = True
        with suppress(OSError, EOFError, ListenerGoneError):
            Sender(self.address).close()  # wakes the thread
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        """Hear one sender after the other; those that come before the end are heard to theirs."""
        with self._socket:
            while self._error is None:
                # A process that has been killed, or a stranger without the key.
                with suppress(OSError, EOFError, AuthenticationError):
                    with self._socket.accept() as connection:
                        self._hear(connection)
                    if self._is_over:
                        return

    def _hear(self, connection: Connection) -> None:
        while self._error is None:
            try:
                record = connection.recv()
            except (EOFError, OSError):
                return
            try:
                for listener in self._listeners:
                    listener(record)
            except BaseException as error:  # noqa: BLE001, raised again where the run was started
                self._error = error


class Sender:
    """A listener that sends each record to a `Relay`.

    Raises (calls too):
        ListenerGoneError: the relay does not hear it.
    """

    def __init__(self, address: Address) -> None:
        try:
            self._connection = Client(address.place, authkey=address.key)
        except (OSError, EOFError) as error:
            raise ListenerGoneError(str(error)) from None

    def __call__(self, record: Record) -> None:
        try:
            self._connection.send(record)
        except OSError as error:
            raise ListenerGoneError(str(error)) from None

    def close(self) -> None:
        """Say that there will be no more."""
        self._connection.close()
