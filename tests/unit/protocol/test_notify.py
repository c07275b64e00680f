"""The datagrams of sd_notify(3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.protocol.notify import (
    MAX_ADDRESS_BYTES,
    MAX_DATAGRAM_BYTES,
    MAX_EXTENSION_S,
    MAX_STATUS_CHARS,
    Notification,
    clean_line,
    read_address,
    read_notification,
    read_watchdog_s,
    write_notification,
)

NOTHING = Notification()


@pytest.mark.parametrize(
    ("datagram", "said"),
    [
        (b"READY=1", Notification(is_ready=True)),
        (b"READY=1\nSTATUS=up\n", Notification(is_ready=True, status="up")),
        (b"WATCHDOG=1", Notification(has_pulse=True)),
        (b"WATCHDOG=trigger", Notification(has_trigger=True)),
        (b"STOPPING=1", Notification(is_stopping=True)),
        (b"RELOADING=1\nMONOTONIC_USEC=17", Notification(is_reloading=True)),
        (b"ERRNO=2", Notification(errno=2)),
        (b"EXTEND_TIMEOUT_USEC=1500000", Notification(extend_s=1.5)),
        (b"EXTEND_TIMEOUT_USEC=999999999999999", Notification(extend_s=MAX_EXTENSION_S)),
        (b"STATUS=", Notification(status="")),
        (b"STATUS=a=b", Notification(status="a=b")),
        (b"STATUS=first\nSTATUS=second", Notification(status="second")),
        (b"STATUS=\x1b[31mred\ttab", Notification(status="[31mred tab")),
        (b"STATUS=\xff", Notification(status="\ufffd")),
    ],
)
def test_what_a_program_says_is_understood(datagram: bytes, said: Notification) -> None:
    """A program written for systemd runs here unchanged."""
    assert read_notification(datagram) == said


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\n\n",
        b"READY",
        b"READY=0",
        b"READY=1 ",
        b" READY=1",
        b"ready=1",
        b"WATCHDOG=0",
        b"ERRNO=-1",
        b"ERRNO=two",
        b"ERRNO=\xd9\xa3",  # a digit, but not an ASCII one
        b"EXTEND_TIMEOUT_USEC=",
        b"EXTEND_TIMEOUT_USEC=1" + b"0" * 15,
        b"BARRIER=1",
        b"MAINPID=1",
        b"FDSTORE=1",
        b"READY=1\0",
        b"READY=1\nSTATUS=" + b"x" * MAX_DATAGRAM_BYTES,
    ],
)
def test_what_is_not_known_or_malformed_says_nothing(datagram: bytes) -> None:
    """Half-understood is worse than not understood: nothing is guessed."""
    assert read_notification(datagram) == NOTHING


@given(st.binary(max_size=MAX_DATAGRAM_BYTES + 10))
def test_no_datagram_breaks_the_reader(datagram: bytes) -> None:
    """The sender is hostile until proven otherwise."""
    said = read_notification(datagram)

    assert said.status is None or (said.status.isprintable() and len(said.status) <= 256)
    assert said.extend_s is None or 0 <= said.extend_s <= MAX_EXTENSION_S


@given(st.text(max_size=300))
def test_a_line_is_printable_and_bounded(text: str) -> None:
    """What goes to a terminal and into /status cannot move the cursor or fill the screen."""
    line = clean_line(text)

    assert line.isprintable()
    assert len(line) <= MAX_STATUS_CHARS


def test_a_long_line_says_that_it_was_cut() -> None:
    """A person must see that there was more."""
    assert clean_line("abcdef", 4) == "abc…"
    assert clean_line("abcd", 4) == "abcd"


@given(st.dictionaries(st.sampled_from(["STATUS", "READY", "WATCHDOG"]), st.text(max_size=50)))
def test_what_is_written_is_one_line_each(values: dict[str, str]) -> None:
    """A value with a line break in it must not become another assignment."""
    lines = write_notification(values).decode().splitlines()

    assert write_notification(values).count(b"\n") == max(0, len(values) - 1)
    assert all(line.partition("=")[0] in values for line in lines if "=" in line)


def test_what_is_written_can_be_read() -> None:
    """Host and program speak one protocol."""
    written = write_notification({"READY": "1", "STATUS": "all\nwell"})

    assert read_notification(written) == Notification(is_ready=True, status="all well")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/systemd/notify", "/run/systemd/notify"),
        ("@kagent/1", "\0kagent/1"),
        ("/" + "x" * (MAX_ADDRESS_BYTES - 1), "/" + "x" * (MAX_ADDRESS_BYTES - 1)),
        ("/" + "x" * MAX_ADDRESS_BYTES, None),
        ("/" + "ä" * 60, None),
        ("/", None),
        ("@", None),
        ("@a\0b", None),
        ("vsock:2:1234", None),
        ("relative", None),
        ("", None),
        (None, None),
    ],
)
def test_an_address_is_a_path_or_an_abstract_name(text: str | None, address: str | None) -> None:
    """What cannot be an address must not become an error at run time."""
    assert read_address(text) == address


@pytest.mark.parametrize(
    ("usec", "pid", "watchdog_s"),
    [
        ("30000000", None, 30.0),
        ("30000000", "7", 30.0),
        ("30000000", "", 30.0),
        ("30000000", "8", None),
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_a_watchdog_is_for_the_process_that_it_names(
    usec: str | None, pid: str | None, watchdog_s: float | None
) -> None:
    """Beats of a process that nobody watches would only confuse the service manager."""
    assert read_watchdog_s(usec, pid, 7) == watchdog_s
