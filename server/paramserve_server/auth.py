"""Who may call: the rule for listening, and the token that clients show.

A server that listens on loopback trusts whoever is on the machine. One that listens elsewhere must
say how it is protected: by a token (better inside TLS), by mutual TLS, by TLS alone, which keeps
what travels secret and lets in whoever trusts the certificate, or, out loud, not at all.

Thread rule: pure functions.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from typing import Final

SCHEME: Final = "Bearer "
HEADER: Final = "authorization"

OPTIONS: Final = (
    "--token-file (or PARAMSERVE_TOKEN), --tls-cert with --tls-key (and --tls-client-ca "
    "to ask clients for certificates), or --insecure on a network that you trust"
)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refusal(
    host: str, *, has_token: bool, has_tls: bool, is_insecure: bool, has_root: bool
) -> str | None:
    """Why a server may not listen on `host` as it is configured; None where it may."""
    if is_loopback(host):
        return None
    if not (has_token or has_tls or is_insecure):
        return (
            f"refusing to listen on {host}, beyond this machine, without protection: give "
            + OPTIONS
        )
    if not has_root:
        return (
            f"refusing to listen on {host}, beyond this machine, without --checkpoint-root: "
            "clients could write anywhere on this disk"
        )
    return None


def knows(metadata: Iterable[tuple[str, str | bytes]], token: str) -> bool:
    """Whether a call's metadata shows the token; takes as long for a wrong one."""
    wanted = f"{SCHEME}{token}".encode()
    shown = b""
    for key, value in metadata:
        if key == HEADER:
            shown = value if isinstance(value, bytes) else value.encode()
    return hmac.compare_digest(shown, wanted)
