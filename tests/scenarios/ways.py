"""C. The ways there are to the API server."""

from __future__ import annotations

import ssl
from typing import Any

from yarl import URL

from control_plane import wait_until
from faults.oracles import assert_converged
from faults.stand import Replica, Scene, Stand
from faults.tunnel import Tunnel
from scenarios.registry import scenario

NOBODY = "http://127.0.0.1:1"
"""A proxy at which nobody answers."""


@scenario(
    36,
    "HTTP proxies, IPv6, a rotated serving certificate",
    injected="an HTTP proxy in the environment, one that is dead and excepted by NO_PROXY, an API server that listens "
    "on ::1 alone, another serving certificate of the same CA while the operator runs",
    asserted="objects are served: by the proxy, past it, over IPv6; with the new certificate without a restart",
    variants=("by-a-proxy", "past-a-proxy", "ipv6", "rotated"),
)
def other_ways_to_the_api_server(stand: Stand, way: str) -> None:
    match way:
        case "by-a-proxy":
            _by_a_proxy(stand)
        case "past-a-proxy":
            _another_way(stand, way, environment={"https_proxy": NOBODY, "no_proxy": "127.0.0.0/8"})
        case "ipv6":
            _another_way(stand, way, host="::1")
        case _:
            _rotated(stand)


def _by_a_proxy(stand: Stand) -> None:
    tunnel = Tunnel()
    stand.loop.run(tunnel.start())
    try:
        served = _another_way(stand, "by-a-proxy", environment={"https_proxy": tunnel.url, "no_proxy": ""})
        url = URL(served.proxy.url)
        assert tunnel.targets == {f"{url.host}:{url.port}"}
    finally:
        stand.loop.run(tunnel.stop())


def _another_way(stand: Stand, way: str, **process: Any) -> Replica:
    with stand.scene(way, started=False) as scene:
        operator = scene.replica("another", **process)
        operator.start()
        scene.namespace.deploy()
        scene.namespace.ready()
        assert operator.requests > 0
        assert_converged(scene, restart=False)
    return operator


def _rotated(stand: Stand) -> None:
    with stand.scene("rotated") as scene:
        scene.namespace.deploy()
        scene.namespace.ready()
        before = _certificate(scene)
        stand.loop.run(scene.proxy.renew_certificate())
        assert _certificate(scene) != before
        scene.namespace.deploy(replicas=2)
        wait_until(lambda: scene.namespace.get("llmd", "llama")["status"].get("ready") == "2/2", 60)
        assert_converged(scene)


def _certificate(scene: Scene) -> str:
    url = URL(scene.proxy.url)
    return ssl.get_server_certificate((str(url.host), url.port or 443))
