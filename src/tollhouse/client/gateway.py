"""Which way leads through the gateway: what was said, or what it turns out to speak."""

from tollhouse.client.doors import GatewayDoor
from tollhouse.client.over_json import JsonDoor, place_of
from tollhouse.client.settings import Settings
from tollhouse.upstream.transport import Transport


def gateway_door(settings: Settings, transport: Transport) -> GatewayDoor:
    """The way that the settings ask for.  Opens nothing."""
    return JsonDoor(place_of(settings, transport, protocol="json"))
