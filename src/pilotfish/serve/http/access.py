"""Who a client is, and what it may do."""

from __future__ import annotations

import hmac
import ipaddress
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.errors import UsageError, reason
from pilotfish.serve.http.peers import peer_name
from pilotfish.serve.refusal import Refusal

if TYPE_CHECKING:
    from starlette.types import Scope

TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750
SHORT = 16  # characters; a shorter token is easily guessed
LARGEST = 1 << 20


def read_tokens(path: Path | str) -> tuple[dict[str, str], list[str]]:
    """Client names by token, and notes about the file.

    A line is ``TOKEN`` or ``NAME TOKEN``; ``#`` at its start or after a space begins a comment. A token without a name
    is named after its line, ``token-3``. UsageError if the file has no token or a line is neither; no message shows a
    token.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            mode, raw = path.stat().st_mode, file.read(LARGEST + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"the token file {path} cannot be read: {error.strerror or reason(error)}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the token file {path} is not text; write one TOKEN or NAME TOKEN per line") from None
    if len(raw) > LARGEST:
        raise UsageError(f"the token file {path} has more than {LARGEST} bytes; write one TOKEN or NAME TOKEN per line")
    found: dict[str, str] = {}
    notes = []
    for number, line in enumerate(text.splitlines(), 1):
        words = re.sub(r"(^|\s)#.*", "", line).split()
        if not words:
            continue
        if len(words) > 2 or not TOKEN.fullmatch(words[-1]) or not words[0].isprintable():
            raise UsageError(
                f"line {number} of the token file {path} is neither TOKEN nor NAME TOKEN; a token has letters, digits "
                "and -._~+/, with = at its end, and a name no spaces"
            )
        token, name = words[-1], words[0] if len(words) == 2 else f"token-{number}"
        if found.setdefault(token, name) != name:
            raise UsageError(f"line {number} of the token file {path} repeats a token; remove one of the two")
        if len(token) < SHORT:
            notes.append(f"the token of {name} in {path} has fewer than {SHORT} characters and is easily guessed")
    if not found:
        raise UsageError(f"the token file {path} holds no token; write one TOKEN or NAME TOKEN per line")
    if mode & stat.S_IROTH:
        notes.append(f"every user of this machine can read the token file {path}; run chmod 600 {path}")
    return found, notes


def is_loopback(host: str) -> bool:
    """Whether a server that listens on *host* is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def access_notes(host: str, tokens: Mapping[str, str]) -> list[str]:
    """What the operator should know about access."""
    if tokens or is_loopback(host):
        return []
    note = f"anyone who can reach {host} may read the operating point and audits, and nobody may change them"
    return [f"{note}; write --token-file FILE"]


@dataclass(frozen=True)
class Access:
    """Who may do what.

    tokens         client names by token. Without tokens, everyone may read and nobody may change anything
    trusted_proxy  whether the client is the last hop of X-Forwarded-For instead of the peer
    """

    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    trusted_proxy: bool = False

    def client(self, scope: Scope) -> str:
        """The name of the request's token, else its peer's address; for IPv6 the network of 64 bits."""
        return (self._holder(scope) if self.tokens else "") or self.address(scope)

    def address(self, scope: Scope) -> str:
        """Where a request comes from."""
        peer = scope.get("client")
        found: str = peer[0] if peer else ""
        if self.trusted_proxy:
            hops = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
            last = _hop(hops[-1]) if hops else ""
            found = last or found
        return peer_name(found)

    def check(self, scope: Scope, changes: bool) -> None:
        """Refusal unless the client may read, or with *changes* also change, what is for operators: the operating
        point, audits and labels."""
        if self.tokens:
            if not self._holder(scope):
                given = any(name == b"authorization" for name, _ in scope["headers"])
                why = "the token is unknown" if given else "a token is required"
                raise Refusal(
                    401,
                    f"{why}; send the header Authorization: Bearer TOKEN",
                    "unauthorized",
                    {"WWW-Authenticate": 'Bearer realm="pilotfish"'},
                )
        elif changes:
            raise Refusal(
                403,
                "a server without tokens allows no changes; start it with --token-file FILE, or in Python with "
                "ServeOptions(tokens={TOKEN: NAME})",
                "forbidden",
            )

    def _holder(self, scope: Scope) -> str:
        """The name of the request's token; empty if it has no known token. Every token is compared, so that the time
        reveals nothing."""
        said = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(said) != 1 or said[0][:7].lower() != b"bearer ":
            return ""
        given, found = said[0][7:].strip(), ""
        for token, name in self.tokens.items():
            if hmac.compare_digest(token.encode(), given):
                found = name
        return found


def _hop(value: bytes) -> str:
    """The address that the last proxy saw; empty if it is not an address."""
    last = value.decode("latin-1").rpartition(",")[2].strip().strip('"')
    host = last[1:].partition("]")[0] if last.startswith("[") else last
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    return host
