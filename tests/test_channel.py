"""The channel between the arbiter and a fork server."""

from __future__ import annotations

import pytest

from resqued.channel import Channel, Closed
from resqued.messages import Ready, Retire, RunDuties


def test_the_last_messages_of_a_process_that_has_not_read_all_arrive():
    """Linux reports the reset before what was sent ahead of it. unix(7)"""
    near, socket = Channel.pair()
    far = Channel(socket)
    near.send(Retire())
    far.send(Ready())
    far.send(RunDuties(True))
    far.close()
    assert near.receive() == Ready()
    assert near.receive() == RunDuties(True)
    for _ in range(2):
        with pytest.raises(Closed):
            near.receive()
    near.close()


def test_a_reset_without_messages_is_the_end():
    near, socket = Channel.pair()
    near.send(Retire())
    socket.close()
    near.send(Retire())
    with pytest.raises(Closed):
        near.receive()
    near.close()
