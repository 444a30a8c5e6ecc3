"""Which addresses a request that somebody else named may go to: public ones, and those that the operator allows.

`ipaddress.is_global` alone is not enough: it lets NAT64, 6to4, site-local and multicast addresses through, each of
which can lead back inside. So IPv6 is judged by what is allowed (2000::/3 without its special blocks, RFC 6890 and
successors), and an IPv4 address that is written as IPv6 is judged as IPv4.
"""

import ipaddress
from collections.abc import Sequence

from schemas.errors import SettingsError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_RELAYS = ipaddress.IPv4Network("192.88.99.0/24")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_SPECIAL = tuple(
    ipaddress.IPv6Network(block)
    for block in (
        "2001::/23",  # Teredo and other protocol assignments
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: any IPv4 address inside
        "3fff::/20",  # documentation
    )
)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Read comma-separated CIDRs such as `10.0.0.0/8, fd00::/8`; raises SettingsError that names the wrong one."""
    networks = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            networks.append(ipaddress.ip_network(part))
        except ValueError:
            raise SettingsError(f"PENSTOCK_OUTGOING_ALLOW: {part!r} is not a network such as 10.0.0.0/8.") from None
    return tuple(networks)


def may_reach(text: str, allowed: Sequence[Network] = ()) -> bool:
    """Judge one resolved address, as `getaddrinfo` writes it; what is no address is refused."""
    try:
        address = _plain(ipaddress.ip_address(text))
    except ValueError:
        return False
    return _is_public(address) or any(address in network for network in allowed)


def _plain(address: Address) -> Address:
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and address not in _RELAYS
    return address in _GLOBAL_UNICAST and not any(address in block for block in _SPECIAL)
