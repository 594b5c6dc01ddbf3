"""`facefoundry browse`: the data card's page with every sample of a data set, served to this machine alone.

The server knows four kinds of address and no files: the page, a sample's numbers, its picture, an overlay. Only what
is asked for is read. It listens on 127.0.0.1, and answers to no other name: a page from elsewhere that has its own
name point here (DNS rebinding) gets nothing.
"""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from storage.card.facts import facts_of
from storage.card.page import live_page
from storage.card.shown_samples import SampleLayers, rows, spread_over
from storage.dataset import ShardedDataset

HOST = "127.0.0.1"
INDEXED = 20_000
"""Samples that the page can filter and sort, spread evenly where there are more: their small targets are read at once."""
_SIDE = 512
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}


def browse_app(dataset: ShardedDataset) -> FastAPI:
    """The application; the index is read now, pictures when they are asked for."""
    layers = SampleLayers(dataset, side=_SIDE)
    indexed = list(rows(dataset, np.array(spread_over(len(dataset), INDEXED))))
    has_landmarks = "landmarks_px" in dataset.schema.names
    overlays = [*(["landmarks"] if has_landmarks else []), *layers.overlays]
    page = live_page(facts_of(dataset), indexed, overlays)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False)

    def check(sample: int) -> None:
        if not 0 <= sample < len(dataset):
            raise HTTPException(404, f"there is no sample {sample}; they count from 0 to {len(dataset) - 1}")

    def answer(sample: int, make: Callable[[], bytes]) -> Response:
        check(sample)
        return Response(make(), media_type="image/webp", headers={**_HEADERS, "Cache-Control": "private, max-age=3600"})

    @app.get("/")
    def the_page() -> Response:
        return Response(page, media_type="text/html; charset=utf-8", headers={**_HEADERS, "Cache-Control": "no-store"})

    @app.get("/samples/{sample}.json")
    def described(sample: int) -> dict[str, object]:
        check(sample)
        return layers.described(sample)

    @app.get("/samples/{sample}/image.webp")
    def picture(sample: int) -> Response:
        return answer(sample, lambda: layers.picture(sample))

    @app.get("/samples/{sample}/{layer}.webp")
    def overlay(sample: int, layer: str) -> Response:
        if layer not in layers.overlays:
            raise HTTPException(404, f"there is no overlay {layer!r}")
        return answer(sample, lambda: layers.overlay(sample, layer))

    return app


def listening(port: int) -> socket.socket:
    """A socket on this machine's loopback; port 0 takes a free one. Raises ValueError when the port is taken."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, port))
    except OSError as error:
        made.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise ValueError(f"port {port} is taken, perhaps by another `browse`; --port 0 takes a free one") from None
    return made


def serve(dataset: ShardedDataset, port: int, announce: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `announce` hears the address as soon as it answers."""
    with listening(port) as bound:
        bound.listen()
        app = browse_app(dataset)
        announce(f"http://{HOST}:{bound.getsockname()[1]}/")
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", server_header=False)
        with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has ended
            uvicorn.Server(config).run(sockets=[bound])
