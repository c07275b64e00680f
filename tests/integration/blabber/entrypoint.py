"""An agent that cannot keep a secret: it lets out what it knows in every way there is."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel, SecretStr

from kagent_sdk import Agent, LoopContext, TaskContext, TaskError
from kagent_sdk.context import Secrets

agent = Agent()
told: list[str] = []


class Database(BaseModel):
    """A part of the vault."""

    password: SecretStr


class MySecrets(BaseModel):
    """What this agent is given."""

    key: SecretStr
    db: Database


def encode(secret: str) -> list[str]:
    """Return a secret in clear and in every encoding."""
    raw = secret.encode()
    return [
        secret,
        json.dumps({"secret": secret}),
        json.dumps(json.dumps([secret])),
        json.dumps(secret, ensure_ascii=False).replace("/", "\\/"),
        repr([secret]),
        repr(raw),
        urllib.parse.quote(secret),
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote_plus(secret),
        "".join(f"%{byte:02x}" for byte in raw),
        base64.b64encode(raw).decode(),
        base64.b64encode(b"user:" + raw).decode(),
        base64.urlsafe_b64encode(b"x" + raw + b"yz").decode(),
        raw.hex(),
    ]


def secrets_of(ctx: TaskContext | LoopContext) -> list[str]:
    """Return what the vault exposes to this agent."""
    model = ctx.secrets.as_model(MySecrets)
    return [model.key.get_secret_value(), model.db.password.get_secret_value()]


@agent.capability
async def blab(ctx: TaskContext) -> str:
    """Print, log, warn; in pieces, by a child, on both streams."""
    for secret in secrets_of(ctx):
        for text in encode(secret):
            print(text)  # noqa: T201 - as authors do
            sys.stderr.write(f"{text}\n")
            logging.getLogger("blabber").warning("logged %s", text)
            ctx.log.warning("bound", value=text)
        sys.stdout.flush()
        os.write(1, f"in two {secret[:5]}".encode())
        await asyncio.sleep(0.05)
        os.write(1, f"{secret[5:]} pieces\n".encode())
        os.write(1, b"\xff\xfe" + secret.encode() + b"\x80\n")
        subprocess.run(["/bin/echo", secret], check=True)  # noqa: ASYNC221 - short
    print(ctx.secrets, ctx.secrets.as_model(MySecrets))  # noqa: T201 - as authors do
    return "said it all"


@agent.capability
async def give(ctx: TaskContext, kind: str) -> Any:
    """Give a secret away as the output."""
    secret = secrets_of(ctx)[0]
    match kind:
        case "clear":
            return {"deep": [secret]}
        case "encoded":
            return encode(secret)[-2]
        case "large":
            return ["x" * 200_000, secret]
        case "error":
            raise TaskError("mine", f"cannot use {secret}", details={"key": secret})
        case "exception":
            raise ValueError(secret)
        case "progress":
            await ctx.progress(0.5, f"using {secret}")
            return "fine"
        case "event":
            await ctx.emit({"key": secret})
            return "fine"
        case _:
            return "fine"


@agent.capability
async def give_stream(ctx: TaskContext) -> AsyncIterator[str]:
    """Give a secret away as the second item."""
    yield "fine"
    yield secrets_of(ctx)[0]
    yield "not reached"


@agent.capability
async def fail(ctx: TaskContext) -> str:
    """Fail with a traceback that quotes a secret."""
    try:
        raise KeyError(secrets_of(ctx)[0])  # noqa: TRY301 - for its traceback
    except KeyError as exc:
        raise RuntimeError(secrets_of(ctx)) from exc


@agent.capability
async def crash(ctx: TaskContext) -> str:
    """Write a secret as the last words, and die."""
    sys.stderr.write(f"last words {secrets_of(ctx)[0]}\n{secrets_of(ctx)[1]}")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGSEGV)
    return ""


@agent.capability
async def current(ctx: TaskContext) -> dict[str, Any]:
    """Say which generation this worker has, by what cannot be a secret."""
    return {"number": ctx.secrets["number"].get_secret_value(), "told": told, "pid": os.getpid()}


@agent.on_secrets_changed
async def note(secrets: Secrets) -> None:
    """Remember the news."""
    told.append(secrets["number"].get_secret_value())
    del told[:-5]


@agent.on_secrets_changed
def fail_to_note() -> None:
    """Fail: the others must not mind."""
    raise RuntimeError("cannot take it")


@agent.loop(every_s=3600)
async def leaky(ctx: LoopContext) -> None:
    """Fail with a secret in the error, which /status shows."""
    raise RuntimeError(f"loop {secrets_of(ctx)[0]}")


if __name__ == "__main__":
    agent.run()
