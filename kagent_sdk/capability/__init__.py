"""An author's function as a `Capability`: schemas, validation, the call, the answer. Pure.

`declare` reads a function's signature once, at import, and refuses what cannot be JSON. What is left
for every task is a few calls into pydantic: `Capability.validate`, `Capability.call` and
`Capability.dump` (or `dump_event`), in that order.
"""

from kagent_sdk.capability.declaration import Capability, declare
from kagent_sdk.capability.failures import InvalidInput, InvalidOutput
from kagent_sdk.capability.inputs import Arguments
from kagent_sdk.capability.options import OnDisconnect, Options
from kagent_sdk.capability.signature import Kind

__all__ = [
    "Arguments",
    "Capability",
    "InvalidInput",
    "InvalidOutput",
    "Kind",
    "OnDisconnect",
    "Options",
    "declare",
]
