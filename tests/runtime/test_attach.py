"""The client's side: detach keys, and carrying streams without losing or mixing them."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from lamina.runtime import attach


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-a,d", b"\x01d"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("", b""),
    ],
)
def test_detach_keys_grammar(text, keys):  # S22
    assert attach.parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-P", "ctrl-", "ctrl-1", "ab", "a,,b", "alt-x", "é"])
def test_detach_keys_that_are_none(text):
    with pytest.raises(attach.InvalidDetachKeys, match="Invalid detach keys"):
        attach.parse_detach_keys(text)


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([b"ab\x10\x11cd"], b"ab", True),
        ([b"ab\x10", b"\x11"], b"ab", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_the_sequence_is_found_across_reads(typed, passed, detached):  # S22
    keys = attach.DetachKeys(b"\x10\x11")
    results = [keys.feed(piece) for piece in typed]
    assert b"".join(out for out, _ in results) == passed
    assert results[-1][1] is detached


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_streams_are_kept_apart(pair):
    ours, theirs = pair
    out, err = os.memfd_create("out"), os.memfd_create("err")
    for packet in (b"\x02one", b"\x03two", b"\x02three"):
        theirs.send(packet)
    theirs.close()
    assert attach.pump(ours, stdin=None, stdout=out, stderr=err) == "ended"
    assert (os.pread(out, 100, 0), os.pread(err, 100, 0)) == (b"onethree", b"two")
    os.close(out)
    os.close(err)


def test_a_peer_that_talks_while_it_listens_does_not_block_us(pair):
    """A container that echoes megabytes back while more are on their way in."""
    ours, theirs = pair
    total = 4 << 20

    def echo() -> None:
        while piece := theirs.recv(1 << 16):
            theirs.send(b"\x02" + piece)
        theirs.close()

    thread = threading.Thread(target=echo)
    thread.start()
    source, out = os.memfd_create("in"), os.memfd_create("out")
    os.truncate(source, total)
    assert attach.pump(ours, stdin=source, stdout=out, stderr=None) == "ended"
    thread.join()
    assert os.fstat(out).st_size == total
    os.close(source)
    os.close(out)


def test_detaching_leaves_what_was_typed_before(pair):
    ours, theirs = pair
    read_end, write_end = os.pipe()
    os.write(write_end, b"typed\x10\x11lost")
    assert attach.pump(ours, stdin=read_end, stdout=None, stderr=None, detach_keys=b"\x10\x11") == "detached"
    assert theirs.recv(100) == b"typed"
    os.close(read_end)
    os.close(write_end)


def test_raw_terminal_is_given_back():
    import pty
    import termios

    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    with pytest.raises(ZeroDivisionError), attach.raw_terminal(slave):
        assert termios.tcgetattr(slave) != before
        raise ZeroDivisionError
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
