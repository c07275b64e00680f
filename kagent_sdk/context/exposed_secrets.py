"""The secrets that an agent may read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr

from kagent_sdk.errors import SecretMissingError

AnyModel = TypeVar("AnyModel", bound=BaseModel)


class Secrets(Mapping[str, SecretStr]):
    """The secrets that ``secrets.expose`` in config.yaml lets this agent read.

    Read-only; no value shows in ``repr``. A value of the vault that is not a string is given as
    its JSON text. There is one for all of the agent's functions, and when the vault is rotated, it
    shows the new values: ask it each time, or declare an ``on_secrets_changed`` function.
    """

    __slots__ = ("_raw", "_values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.replace(values)

    def replace(self, values: Mapping[str, Any]) -> None:
        """Show these from now on, as a whole. The runtime's business, not the author's."""
        self._raw = dict(values)
        self._values = {
            key: SecretStr(value if isinstance(value, str) else json.dumps(value))
            for key, value in values.items()
        }

    def __getitem__(self, key: str) -> SecretStr:
        """Return a secret, or raise `SecretMissingError` where the agent has none of that name.

        Raises:
            SecretMissingError: the vault lacks it, or the configuration does not expose it.
        """
        try:
            return self._values[key]
        except KeyError:
            raise SecretMissingError(key) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Secrets {', '.join(sorted(self._values)) or 'none'}>"

    def __reduce__(self) -> str:
        raise TypeError("secrets are not to be copied or pickled")

    def as_model(self, model: type[AnyModel]) -> AnyModel:
        """Return the secrets as a pydantic model of the author's.

        ::

            class Database(BaseModel):
                password: SecretStr
                port: int = 5432

            class MySecrets(BaseModel):
                openai_api_key: SecretStr
                db: Database                     # secrets.expose: [openai_api_key, db.password]

            secrets = ctx.secrets.as_model(MySecrets)

        Paths such as ``db.password`` become nested models. Declare a value as `SecretStr`, so
        that it does not show in the model's ``repr``.

        Raises:
            SecretMissingError: a field without a default is not exposed.
            SecretMismatchError: a value does not fit its field; the message does not hold it.
        """
        from kagent_sdk.typed_secrets import build_model  # noqa: PLC0415 - on first use

        return build_model(model, self._raw)
