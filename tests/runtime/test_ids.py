"""Ids of containers, which are also their host names."""

from __future__ import annotations

import pytest

from lamina.runtime.ids import container_id


def test_an_id_is_64_hex_characters():
    drawn = {container_id() for _ in range(100)}
    assert len(drawn) == 100
    assert all(len(one) == 64 and set(one) <= set("0123456789abcdef") for one in drawn)


def test_a_number_is_drawn_again_because_resolvers_take_it_for_an_address():
    draws = iter([bytes.fromhex("562794151829" + "ab" * 26), bytes.fromhex("562794151a29" + "00" * 26)])
    assert container_id(lambda _size: next(draws)).startswith("562794151a29")


@pytest.mark.root
@pytest.mark.runtime
def test_why_a_host_name_of_digits_is_not_found(store):
    """What the rule above is for: the name stands in /etc/hosts, and glibc does not look there."""
    script = "grep -c $(hostname) /etc/hosts; hostname -i"
    assert store.run("sh", "-c", script, hostname="56279415182a").code == 0
    found = store.run("sh", "-c", script, hostname="562794151829")
    assert (found.out.splitlines()[0], found.code) == ("1", 1)
