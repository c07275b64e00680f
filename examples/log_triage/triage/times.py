"""Write times and sizes for people. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo


def moment(at_s: float, zone: tzinfo | None) -> datetime:
    """Return seconds since the epoch as a time of the zone; None is the machine's own."""
    return datetime.fromtimestamp(at_s, UTC).astimezone(zone)


def clock_text(at_s: float | None, zone: tzinfo | None = None) -> str:
    """Return ``2025-06-24 14:36:25``, or a dash."""
    return "–" if at_s is None else f"{moment(at_s, zone):%Y-%m-%d %H:%M:%S}"


def span_text(start_s: float, end_s: float, zone: tzinfo | None = None) -> str:
    """Return a span, without the day twice if it is one day."""
    start, end = moment(start_s, zone), moment(end_s, zone)
    if start.date() == end.date():
        return f"{start:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S}"
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"


def length_text(seconds: float) -> str:
    """Return a length of time in the unit that fits: ``42 s``, ``5 min``, ``3 h``, ``12 days``."""
    for unit_s, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s or seconds == unit_s == 60:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def size_text(size_bytes: float) -> str:
    """Return a size in binary units: ``1.2 MiB``."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"
