"""Where a provider is: the names known without an entry, and which addresses a key may be sent to."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from runner.job.environment import VARIABLE, misplaced
from runner.providers import DIALECTS, Home

BUILT_IN: Final = "sim"
"""The word that stands for the address of the built-in server."""


WELL_KNOWN: Final[Mapping[str, Home]] = {
    name: dialect.home for name, dialect in DIALECTS.items() if dialect.home.base_url is not None
}
"""What may be used without an entry: the name of a provider is that of its dialect then."""


def entry_to_add(name: str) -> str:
    """The line under `providers:` that makes this name known."""
    if name in WELL_KNOWN:
        return f"{name}: {{type: {name}}}"
    variable = "".join(c if c.isalnum() and c.isascii() else "_" for c in name.upper())
    return f'{name}: {{type: openai, base_url: "https://.../v1", api_key: "${{{variable}_API_KEY}}"}}'


OF_KEYS: Final = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key"})
"""The headers in which servers look for a key."""


def same_address(one: str, other: str | None) -> bool:
    """True when two addresses differ in a last slash at most."""
    return other is not None and one.rstrip("/") == other.rstrip("/")


_METADATA_HOSTS: Final = frozenset({"metadata", "metadata.google.internal", "instance-data", "metadata.azure.internal"})
_METADATA_ADDRESSES: Final = frozenset(
    ipaddress.ip_address(a) for a in ("169.254.169.254", "100.100.100.200", "fd00:ec2::254", "168.63.129.16")
)


def unsafe(url: str, *, keyed: bool) -> str | None:
    """Why nothing may be sent to this address; None when it is fit for use. `keyed`: a key would be sent."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "this is not a URL"
    if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in url):
        return "this is not a URL: it must begin with https:// (or http:// on this machine), or be the word `sim`"
    if parts.username is not None or parts.password is not None:
        return "a URL may not carry a user name or password: use api_key or headers"
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "a base URL has no query and no fragment"
    address = _address(host)
    if host.rstrip(".").lower() in _METADATA_HOSTS or (
        address is not None and (address.is_link_local or address in _METADATA_ADDRESSES)
    ):
        return "this is a link-local or metadata address of the machine's own network, not a model server"
    if parts.scheme == "http" and keyed and not _is_loopback(host):
        return "a key would cross the network unencrypted: use https://, or no key"
    return None


_PASS: Final = re.compile(r"[A-Za-z0-9_-]{16,}")
"""What only those know who may post somewhere."""


def exposed(webhook: str) -> str | None:
    """Why a webhook may not stand in a job file like this; None when it may."""
    if odd := misplaced(webhook):
        return f"`{odd}` is no variable: write ${{NAME}} or ${{NAME:-default}}"
    if VARIABLE.match(webhook):
        return None
    try:
        parts = urlsplit(webhook)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "this is not a URL"
    if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in webhook):
        return "this is not a URL: it must begin with https:// (or http:// on this machine)"
    if parts.scheme == "http" and not _is_loopback(host):
        return "what happened would cross the network unencrypted: use https://"
    rest = VARIABLE.sub("", f"{parts.path}?{parts.query}")
    if parts.password is not None or any(any(c.isdigit() for c in found) for found in _PASS.findall(rest)):
        return "whoever has this address can post there: it may not stand in a job file"
    return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host.rstrip(".").lower() == "localhost" or (address is not None and address.is_loopback)


_OWN_NAMES: Final = (".local", ".localhost", ".lan", ".internal", ".home.arpa")
_SHARED: Final = ipaddress.ip_network("100.64.0.0/10")
"""Private networks over the public one give their machines addresses out of this."""


def at_hand(url: str) -> bool:
    """True for an address on this machine or in a network of one's own: who answers there asks for no money."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    address = _address(host)
    if address is not None:
        return address.is_private or address in _SHARED
    return "." not in host or host.endswith(_OWN_NAMES)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    text = host.rstrip(".").partition("%")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        # Resolvers also take one number, octal or hexadecimal parts for an IPv4 address.
        return _loose_ipv4(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _loose_ipv4(text: str) -> ipaddress.IPv4Address | None:
    parts = text.lower().split(".")
    if len(parts) > 4:
        return None
    numbers: list[int] = []
    for part in parts:
        base = 16 if part.startswith("0x") else 8 if part.startswith("0") and len(part) > 1 else 10
        try:
            numbers.append(int(part, base))
        except ValueError:
            return None
    *leading, last = numbers
    if any(n > 255 for n in leading) or last >= 256 ** (4 - len(leading)):
        return None
    return ipaddress.IPv4Address(sum(n << (24 - 8 * i) for i, n in enumerate(leading)) + last)
