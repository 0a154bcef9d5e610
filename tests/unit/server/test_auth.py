"""Who may listen where, and who may call."""

import pytest

from paramserve_server import auth


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "::1", "[::1]"])
def test_loopback_needs_nothing(host):
    assert auth.is_loopback(host)
    assert (
        auth.refusal(host, has_token=False, has_tls=False, is_insecure=False, has_root=False)
        is None
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "[::]", "::", "ps0.example.com", ""])
def test_elsewhere_a_server_must_know_its_clients(host):
    assert not auth.is_loopback(host)
    refusal = auth.refusal(host, has_token=False, has_tls=False, is_insecure=False, has_root=True)
    assert refusal is not None
    for option in ("--token-file", "--tls-client-ca", "--insecure"):
        assert option in refusal
    assert "\n" not in refusal


@pytest.mark.parametrize("how", ["has_token", "has_tls", "is_insecure"])
def test_each_way_of_knowing_them_is_enough(how):
    ways = {"has_token": False, "has_tls": False, "is_insecure": False}
    ways[how] = True
    assert auth.refusal("0.0.0.0", **ways, has_root=True) is None
    refusal = auth.refusal("0.0.0.0", **ways, has_root=False)
    assert refusal is not None
    assert "--checkpoint-root" in refusal


@pytest.mark.parametrize(
    ("metadata", "known"),
    [
        ([("authorization", "Bearer secret")], True),
        ([("authorization", b"Bearer secret")], True),
        ([("other", "x"), ("authorization", "Bearer secret")], True),
        ([("authorization", "Bearer secre")], False),
        ([("authorization", "Bearer secretly")], False),
        ([("authorization", "secret")], False),
        ([("authorization", "")], False),
        ([("token", "Bearer secret")], False),
        ([], False),
    ],
)
def test_a_call_is_known_by_its_token_alone(metadata, known):
    assert auth.knows(metadata, "secret") is known
