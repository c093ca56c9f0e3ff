"""What a child tells its worker, cut, mixed with rubbish, and too large."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from resqued.worker.isolation.frames import TOKEN, Frame, FrameKind, FrameReader, encode

TOKENS = os.urandom(TOKEN)
FRAMES = st.builds(
    Frame,
    st.sampled_from(FrameKind),
    st.dictionaries(st.text(max_size=3).filter("parts".__ne__), st.integers(), max_size=3),
    st.lists(st.binary(max_size=50), max_size=3),
)


def fed(reader, raw, size):
    return [frame for at in range(0, len(raw), size) for frame in reader.feed(raw[at : at + size])]


@given(
    st.lists(st.tuples(st.binary(max_size=40), FRAMES), max_size=4),
    st.binary(max_size=40),
    st.integers(1, 60),
)
def test_frames_arrive_whatever_stands_before_them(pairs, rest, size):
    sent = [frame for _, frame in pairs]
    raw = b"".join(rubbish + b"".join(encode(TOKENS, frame)) for rubbish, frame in pairs) + rest
    assert fed(FrameReader(TOKENS, 1000), raw, size) == sent


@given(FRAMES, st.integers(0, 400), st.integers(1, 60))
def test_a_frame_that_was_changed_was_never_sent(frame, place, size):
    raw = bytearray(b"".join(encode(TOKENS, frame)))
    place %= len(raw)
    raw[place] ^= 0x55
    whole = b"".join(encode(TOKENS, Frame(FrameKind.ALLOW)))
    got = fed(FrameReader(TOKENS, 1000), bytes(raw) + whole * 40, size)
    assert all(each == Frame(FrameKind.ALLOW, {}, []) for each in got)


def test_what_is_larger_than_the_limit_is_passed_over():
    large = b"".join(encode(TOKENS, Frame(FrameKind.RETURNED, {}, [bytes(2000)])))
    small = b"".join(encode(TOKENS, Frame(FrameKind.RETURNED, {}, [b"1"])))
    assert FrameReader(TOKENS, 1000).feed(large + small) == [Frame(FrameKind.RETURNED, {}, [b"1"])]
