"""Patterns of AE titles and of IP addresses, as they stand in the settings.

``*`` is any run of characters and ``?`` any single one; every other character stands for itself,
``[`` too, which AE titles may contain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

_LONGEST_AE_TITLE = 16
# PS3.5 Section 6.2, AE: the default character repertoire but backslash and control characters.
_NOT_IN_AE_TITLES = re.compile(r"[^ -\[\]-~]")
_ADDRESS_WILDCARD = re.compile(r"[0-9A-Fa-f:.]*[*?][0-9A-Fa-f:.*?]*\Z")
# IPv6 addresses that stand for IPv4 ones (RFC 4291 Section 2.5.5.2).
_MAPPED = IPv6Network("::ffff:0:0/96")


def ae_pattern(text: str) -> str:
    """Return a pattern of AE titles without the spaces around it, which never count.

    Raises
    ------
    ValueError
        If no AE title (PS3.5 Section 6.2) can match it.
    """
    pattern = text.strip(" ")
    if not pattern:
        raise ValueError("an AE title cannot be empty or only spaces")
    if found := _NOT_IN_AE_TITLES.search(pattern):
        raise ValueError(f"an AE title cannot contain {found.group()!a}")
    if len(pattern.replace("*", "")) > _LONGEST_AE_TITLE:
        raise ValueError(f"an AE title has at most {_LONGEST_AE_TITLE} characters: {pattern}")
    return pattern


def address_pattern(text: str) -> str:
    """Return a pattern of addresses as it is; see `AddressPatterns`.

    Raises
    ------
    ValueError
        If it is no address, no wildcard and no network.
    """
    pattern = text.strip()
    if not _ADDRESS_WILDCARD.match(pattern):
        _network(pattern)
    return pattern


class AePatterns:
    """AE titles, exact or with wildcards; case counts, spaces around a title do not.

    Parameters
    ----------
    patterns : iterable of str
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._matches = tuple(_glob(pattern.strip(" ")).match for pattern in patterns)

    def match(self, ae_title: str) -> bool:
        """Tell whether one of the patterns matches an AE title (PS3.8 Section 9.3.2)."""
        title = ae_title.strip(" ")
        return any(match(title) for match in self._matches)


class AddressPatterns:
    """IP addresses: exact, with wildcards, or networks in CIDR notation.

    An IPv4-mapped IPv6 address equals the IPv4 one, in patterns and in what is asked for.

    Parameters
    ----------
    patterns : iterable of str
        ``192.0.2.7``, ``192.0.2.*``, ``192.0.2.0/24``, ``2001:db8::/32``. Wildcards match the
        shortest spelling of an address, in small letters.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        listed = [pattern.strip() for pattern in patterns]
        wild = [pattern for pattern in listed if _ADDRESS_WILDCARD.match(pattern)]
        self._matches = tuple(_glob(pattern.lower()).match for pattern in wild)
        self._networks = tuple(_network(pattern) for pattern in listed if pattern not in wild)

    def match(self, address: str) -> bool:
        """Tell whether one of the patterns matches; what is no IP address matches none."""
        try:
            known = _unmapped(ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        return any(known in network for network in self._networks) or any(
            match(str(known)) for match in self._matches
        )


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.replace("[", "[[]")))


def _network(pattern: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(pattern)
    except ValueError as error:
        if "host bits" in str(error):
            meant = ip_network(pattern, strict=False)
            raise ValueError(f"{pattern} names a host in a network; write {meant}") from None
        raise ValueError(
            f"{pattern} is no IP address, no wildcard such as 192.0.2.* and no network such as "
            "192.0.2.0/24 (host names are not looked up)"
        ) from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
