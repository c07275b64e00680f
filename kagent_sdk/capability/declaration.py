"""Declare an author's function as a capability."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kagent_sdk.capability.inputs import Arguments, compile_input
from kagent_sdk.capability.options import (
    OnDisconnect,
    Options,
    check_description,
    check_name,
    check_options,
    check_tags,
)
from kagent_sdk.capability.outputs import compile_output
from kagent_sdk.capability.signature import Kind, Signature, read_signature
from kagent_sdk.context import TaskContext
from kagent_sdk.protocol.manifest import CapabilityManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """A named, typed operation that an agent offers.

    The four callables are made once and run for every task, so they are plain attributes.

    Attributes:
        name: its name in the agent.
        description: what it does, for callers.
        function: the author's function.
        kind: how it runs.
        context_parameter: the parameter that takes the `TaskContext`, if any.
        options: what the author said beside.
        input_schema: JSON Schema (2020-12) of the input.
        output_schema: JSON Schema of the output; of the list of all items for a stream.
        event_schema: JSON Schema of one item of a stream, else None.
        validate: ``validate(raw)`` makes the arguments from the input's JSON. Of two equal keys
            the last one counts. Raises `InvalidInput` whatever the bytes are; an exception of the
            author's validators that pydantic does not know (other than `ValueError` and
            `AssertionError`) comes through as it is.
        call: ``call(arguments, ctx)`` calls the function: a coroutine, an async generator or, for
            a sync function, its result.
        dump: ``dump(output)`` makes the output's JSON; raises `InvalidOutput`.
        dump_event: ``dump_event(item)`` makes an event's JSON; raises `InvalidOutput`.
    """

    name: str
    description: str
    function: Callable[..., Any]
    kind: Kind
    context_parameter: str | None
    options: Options
    input_schema: dict[str, Any] = field(repr=False)
    output_schema: dict[str, Any] = field(repr=False)
    event_schema: dict[str, Any] | None = field(repr=False)
    validate: Callable[[bytes], Arguments] = field(repr=False, compare=False)
    call: Callable[[Arguments, TaskContext], Any] = field(repr=False, compare=False)
    dump: Callable[[object], bytes] = field(repr=False, compare=False)
    dump_event: Callable[[object], bytes] = field(repr=False, compare=False)

    def manifest(self) -> CapabilityManifest:
        """Return what the host and callers get to know."""
        options = self.options
        return CapabilityManifest(
            name=self.name,
            description=self.description,
            input_schema=self.input_schema,
            output_schema=self.output_schema,
            event_schema=self.event_schema,
            streams=self.kind is Kind.STREAM,
            idempotent=options.idempotent,
            max_attempts=options.max_attempts,
            timeout_s=options.timeout_s,
            max_concurrency=options.max_concurrency,
            on_disconnect=options.on_disconnect,
            durable=options.durable,
            tags=options.tags,
        )


def declare(  # noqa: PLR0913 - each option is a keyword of the author's API
    function: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    idempotent: bool = False,
    max_attempts: int = 3,
    timeout_s: float | None = None,
    max_concurrency: int | None = None,
    on_disconnect: OnDisconnect = "cancel",
    durable: bool = True,
    tags: Iterable[str] = (),
) -> Capability:
    """Declare a function as a capability; the options are described at `Options`.

    Args:
        function: a plain, async or async generator function.
        name: the function's own name if not given.
        description: the function's docstring if not given.
        idempotent: see `Options`, as for all that follow.
        max_attempts: from 1 to 1000.
        timeout_s: seconds, above 0.
        max_concurrency: 1 or more.
        on_disconnect: ``cancel`` or ``detach``.
        durable: True or False.
        tags: words.

    Raises:
        DeclarationError: the function cannot become a capability, or an option is wrong.
    """
    signature = read_signature(function)
    where = signature.where
    options = Options(
        idempotent=idempotent,
        max_attempts=max_attempts,
        timeout_s=timeout_s,
        max_concurrency=max_concurrency,
        on_disconnect=on_disconnect,
        durable=durable,
        tags=check_tags(where, tags),
    )
    check_options(where, options)
    checked_name = check_name(where, function.__name__ if name is None else name)
    text = check_description(where, function.__doc__ if description is None else description)
    return _compile(function, signature, checked_name, text, options)


def _compile(
    function: Callable[..., Any], signature: Signature, name: str, text: str, options: Options
) -> Capability:
    inputs = compile_input(name, signature, function)
    outputs = compile_output(signature)
    return Capability(
        name=name,
        description=text,
        function=function,
        kind=signature.kind,
        context_parameter=signature.context_parameter,
        options=options,
        input_schema=inputs.schema,
        output_schema=outputs.schema,
        event_schema=outputs.event_schema,
        validate=inputs.validate,
        call=inputs.call,
        dump=outputs.dump,
        dump_event=outputs.dump_event,
    )
