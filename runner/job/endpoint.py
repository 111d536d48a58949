"""Where a provider is: the names known without an entry, and which addresses a key may be sent to."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

BUILT_IN: Final = "sim"
"""The word that stands for the address of the built-in server."""


@dataclass(frozen=True, slots=True)
class WellKnown:
    """What a provider's name alone says."""

    type: Literal["openai", "sim"]
    base_url: str
    api_key: str | None
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"


WELL_KNOWN: Final[Mapping[str, WellKnown]] = {
    "sim": WellKnown("sim", BUILT_IN, None),
    "openai": WellKnown("openai", "https://api.openai.com/v1", "${OPENAI_API_KEY}", "max_completion_tokens"),
}

_COMPATIBLE: Final[Mapping[str, str]] = {
    "openrouter": "https://openrouter.ai/api/v1",
    "deepseek": "https://api.deepseek.com",
    "mistral": "https://api.mistral.ai/v1",
    "groq": "https://api.groq.com/openai/v1",
    "together": "https://api.together.ai/v1",
    "xai": "https://api.x.ai/v1",
    "zai": "https://api.z.ai/api/paas/v4",
}


def entry_to_add(name: str) -> str:
    """The line under `providers:` that makes this name known."""
    if name in WELL_KNOWN:
        return f"{name}: {{type: {WELL_KNOWN[name].type}}}"
    url = _COMPATIBLE.get(name, "https://.../v1")
    variable = "".join(c if c.isalnum() and c.isascii() else "_" for c in name.upper())
    field = ", limit_field: max_completion_tokens" if name == "groq" else ""
    return f'{name}: {{type: openai, base_url: "{url}", api_key: "${{{variable}_API_KEY}}"{field}}}'


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
    loopback = host.rstrip(".").lower() == "localhost" or (address is not None and address.is_loopback)
    if parts.scheme == "http" and keyed and not loopback:
        return "a key would cross the network unencrypted: use https://, or no key"
    return None


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
