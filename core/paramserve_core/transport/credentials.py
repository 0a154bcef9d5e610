"""What a client shows a server, and how it knows the server.

Thread rule: immutable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TOKEN_VARIABLE = "PARAMSERVE_TOKEN"
CA_VARIABLE = "PARAMSERVE_TLS_CA"
CERT_VARIABLE = "PARAMSERVE_TLS_CERT"
KEY_VARIABLE = "PARAMSERVE_TLS_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """How a client connects.

    Attributes:
        token: a secret that servers and clients share; "" where there is none.
        ca: certificates (PEM) of who may have signed the server's; None: no TLS.
        cert: the client's own certificate (PEM), for mutual TLS.
        key: its private key (PEM).
    """

    token: str = ""
    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.ca is not None or self.cert is not None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> ClientCredentials:
        """What the environment says: a token, and the names of PEM files.

        `PARAMSERVE_TOKEN`, `PARAMSERVE_TLS_CA`, `PARAMSERVE_TLS_CERT`, `PARAMSERVE_TLS_KEY`.

        Raises:
            ValueError: a file cannot be read, or the token cannot travel; the message names the
                variable.
        """
        source = os.environ if environ is None else environ

        def read(variable: str) -> bytes | None:
            path = source.get(variable)
            if not path:
                return None
            try:
                return Path(path).read_bytes()
            except OSError as error:
                raise ValueError(f"{variable}: {path!r} cannot be read: {error.strerror}") from None

        token = source.get(TOKEN_VARIABLE, "")
        if not (token.isascii() and token.isprintable()):
            raise ValueError(f"{TOKEN_VARIABLE}: a token is printable ASCII text on one line")
        return cls(
            token=token,
            ca=read(CA_VARIABLE),
            cert=read(CERT_VARIABLE),
            key=read(KEY_VARIABLE),
        )
