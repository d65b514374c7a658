"""Who asks, and what they may do: token files, clients and proxies, routes for operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilotfish.errors import UsageError
from pilotfish.serve.http.access import Access, access_notes, read_tokens
from pilotfish.serve.refusal import Refusal

LONG = "0123456789abcdefXYZ"


def token_file(folder: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "tokens"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def scope(*headers: tuple[str, str], client: tuple[str, int] | None = ("10.0.0.9", 5000)) -> dict[str, Any]:
    return {
        "type": "http",
        "client": client,
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers],
    }


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (LONG, {LONG: "token-1"}),
        (f"# ours\n\nops {LONG}\r\nci {LONG}2 # since May\n", {LONG: "ops", LONG + "2": "ci"}),
        (f"\ufeffops\t{LONG}==", {LONG + "==": "ops"}),
        (f"ops {LONG}\nops {LONG}2", {LONG: "ops", LONG + "2": "ops"}),
        (f"ops {LONG}\nops {LONG}", {LONG: "ops"}),
    ],
)
def test_token_files_are_read(tmp_path: Path, text: str, tokens: dict[str, str]) -> None:
    assert read_tokens(token_file(tmp_path, text)) == (tokens, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no token"),
        ("# only a comment\n\n", "holds no token"),
        (f"a b {LONG}", "line 1 .* neither TOKEN nor NAME TOKEN"),
        (f"{LONG}\nops {LONG}é", "line 2 .* neither"),
        (f"ops {LONG}\nci {LONG}", "line 2 .* repeats a token"),
        (b"\xff\xfe\0\0", "is not text"),
        (b"a" * (1 << 20) + b"a", "more than 1048576 bytes"),
    ],
)
def test_damaged_token_files_are_refused_without_showing_tokens(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said) as found:
        read_tokens(token_file(tmp_path, text))
    assert LONG not in str(found.value)


def test_token_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            read_tokens(path)


def test_what_is_odd_about_a_token_file_is_noted(tmp_path: Path) -> None:
    _, notes = read_tokens(token_file(tmp_path, "ops short", 0o644))
    assert "the token of ops" in notes[0]
    assert "easily guessed" in notes[0]
    assert "chmod 600" in notes[1]


@pytest.mark.parametrize(
    ("host", "tokens", "noted"),
    [("127.0.0.1", {}, False), ("::1", {}, False), ("localhost", {}, False), ("0.0.0.0", {}, True), ("::", {}, True),
     ("10.1.2.3", {}, True), ("example.org", {}, True), ("0.0.0.0", {"t": "ops"}, False)],
)  # fmt: skip
def test_a_server_that_others_reach_without_tokens_is_noted(host: str, tokens: dict[str, str], noted: bool) -> None:
    notes = access_notes(host, tokens)
    assert bool(notes) == noted
    assert all("--token-file" in note for note in notes)


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ([("Authorization", f"Bearer {LONG}")], "ops"),
        ([("authorization", f"bearer   {LONG} ")], "ops"),
        ([("Authorization", f"Bearer {LONG}x")], "10.0.0.9"),
        ([("Authorization", f"Basic {LONG}")], "10.0.0.9"),
        ([("Authorization", "Bearer é")], "10.0.0.9"),
        ([("Authorization", f"Bearer {LONG}"), ("Authorization", "Bearer x")], "10.0.0.9"),
        ([("X-Forwarded-For", "1.2.3.4")], "10.0.0.9"),
        ([], "10.0.0.9"),
    ],
)
def test_a_client_is_its_token_or_its_address(headers: list[tuple[str, str]], client: str) -> None:
    assert Access({LONG: "ops", LONG + "2": "ci"}).client(scope(*headers)) == client


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        (["1.2.3.4"], "1.2.3.4"),
        (["6.6.6.6, 1.2.3.4"], "1.2.3.4"),  # what the client itself wrote comes first
        (["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
        (["1.2.3.4:5678"], "1.2.3.4"),
        (['"[2001:db8::5]:443"'], "2001:db8::/64"),
        (["2001:db8::5"], "2001:db8::/64"),
        (["1.2.3.4, unknown"], "10.0.0.9"),
        ([""], "10.0.0.9"),
        ([], "10.0.0.9"),
    ],
)
def test_behind_a_trusted_proxy_a_client_is_the_last_hop(hops: list[str], client: str) -> None:
    assert Access(trusted_proxy=True).client(scope(*(("X-Forwarded-For", hop) for hop in hops))) == client


def test_a_client_without_an_address() -> None:
    assert Access().client(scope(client=None)) == ""


@pytest.mark.parametrize("changes", [False, True])
def test_operators_bear_a_token(changes: bool) -> None:
    access = Access({LONG: "ops"})
    access.check(scope(("Authorization", f"Bearer {LONG}")), changes)
    for headers, why in (([], "token is required"), ([("Authorization", "Bearer wrong")], "the token is unknown")):
        with pytest.raises(Refusal, match=f"{why}; send the header Authorization: Bearer TOKEN") as found:
            access.check(scope(*headers), changes)
        assert found.value.status == 401
        assert found.value.headers["WWW-Authenticate"].startswith("Bearer")


def test_without_tokens_everybody_reads_and_nobody_changes() -> None:
    Access().check(scope(), changes=False)
    with pytest.raises(Refusal, match="--token-file") as found:
        Access().check(scope(("Authorization", f"Bearer {LONG}")), changes=True)
    assert found.value.status == 403


def test_tokens_are_not_shown() -> None:
    assert LONG not in repr(Access({LONG: "ops"}))
