"""Configure structlog when the author first imports it: its import costs 50 ms, for who logs alone."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from kagent_sdk.worker.output import LineStream
from kagent_sdk.worker.record_writer import write_record
from kagent_sdk.worker.tracebacks import format_exception, print_exception

STRUCTLOG = "structlog"


class StructlogSetup:
    """Stands first among the finders of modules until structlog is imported.

    Args:
        stream: where the records go.
        level: the least severe that is written, a number of `logging`.

    Attributes:
        level: the same; may be changed.
    """

    def __init__(self, stream: LineStream, level: int) -> None:
        self._stream = stream
        self.level = level

    def install(self) -> None:
        """Configure structlog now, if it is there, else as soon as it is."""
        if STRUCTLOG in sys.modules:
            self.configure()
        else:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find structlog as the other finders do, and come in after it is loaded."""
        if name != STRUCTLOG:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((each for each in specs if each is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
        return spec

    def configure(self) -> None:
        """Let structlog write records, unless the author has configured it; never raises."""
        with suppress(ValueError):
            sys.meta_path.remove(self)
        try:
            self._configure()
        except Exception as exc:  # noqa: BLE001 - the author's import must not fail for our sake
            print_exception("structlog could not be set up:", exc)

    def _configure(self) -> None:
        import structlog  # noqa: PLC0415 - it is here already

        if structlog.is_configured():
            return
        render = structlog.processors.ExceptionRenderer(
            lambda exc_info: format_exception(exc_info[1])
        )
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.StackInfoRenderer(),
                render,
                _hand_over,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(self.level),
            logger_factory=lambda *names: RecordLogger(self._stream, *names),
            cache_logger_on_first_use=False,
        )
        # What stands there is a default, like structlog's own: `configure_once` must not refuse,
        # and "unless it is configured" must still be true.
        structlog._config._CONFIG.is_configured = False  # noqa: SLF001 - there is no other way


def change_level(level: int) -> None:
    """Let structlog write what is this severe, a number of `logging`, unless it is the author's own."""
    for finder in sys.meta_path:
        if isinstance(finder, StructlogSetup):
            finder.level = level
    if STRUCTLOG not in sys.modules:
        return
    import structlog  # noqa: PLC0415 - it is here already

    if structlog.get_config()["processors"][-1:] == [_hand_over]:
        was_configured = structlog.is_configured()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
        structlog._config._CONFIG.is_configured = was_configured  # noqa: SLF001 - as above


class RecordLogger:
    """What structlog's loggers write to: any method takes its name and the event.

    An author who configures only the processors gets this still; then it prints what they render,
    as structlog's own `PrintLogger` does.

    Args:
        stream: where the records go.
        names: what the author gave to ``structlog.get_logger``; the first is the logger's name.
    """

    def __init__(self, stream: LineStream, *names: object) -> None:
        self._stream = stream
        self._name = {"logger": str(names[0])} if names else {}

    def write(self, level: str, event: MutableMapping[str, Any] | None = None) -> None:
        """Write one record; without an event, ``level`` is a line that is rendered already."""
        if event is None:
            sys.stdout.write(f"{level}\n")
            return
        exception = event.pop("exception", None)
        write_record(
            self._stream,
            level,
            str(event.pop("event", "")),
            {**self._name, **event},
            exception=None if exception is None else str(exception),
        )

    debug = info = warning = warn = error = err = critical = fatal = exception = log = msg = write


class _Loader:
    """Loads a module as another loader does; then that one takes its place again."""

    def __init__(self, loader: Any, setup: StructlogSetup) -> None:
        self._loader = loader
        self._setup = setup

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._setup.configure()


def _hand_over(
    _logger: object, method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[str, MutableMapping[str, Any]], dict[str, Any]]:
    return (method, event), {}
