"""The requests that the page of vos-interact makes, and who may make them.

Every address begins with the token. Files are named by a frame's number alone, so that no request reaches
another one. An error is a JSON object {"error": sentence}.
"""

import asyncio
import json
import re
import secrets
import socket
import time
import webbrowser
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from vos_lightning.apps.interact_work import Stroke, Unwritten, Workshop
from vos_lightning.atomic import replacing
from vos_lightning.data.images import voc_palette
from vos_lightning.data.scribbles import Scribble
from vos_lightning.errors import InputError
from vos_lightning.plain import read_json
from vos_lightning.processes import Interruption

PAGE = Path(__file__).parent / "interact_page"
MOST_BYTES, MOST_POINTS, LONGEST_ID = 2**18, 2000, 64
THUMB = 96  # pixels of a small frame's height
TOKEN = re.compile(r"[\w-]{20,64}", re.ASCII)
WAIT = 15.0  # seconds that a request for the state waits for another one
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets only those requests through that the page itself makes.

    They name this server as their host (which a page of another site that had its name rebound to the
    loopback address does not), come from it if they say where from, and have the token first in their path.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app, self.token = app, token.encode()
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers or refuses a request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope)
        origin = request.headers.get("origin")
        first = scope["path"].encode().split(b"/")[1] if "/" in scope["path"] else b""
        if request.headers.get("host") not in self.hosts:
            refusal = "The request names another host; use the address that vos-interact printed."
        elif origin is not None and origin not in {f"http://{host}" for host in self.hosts}:
            refusal = "The request comes from another site; use the address that vos-interact printed."
        elif not secrets.compare_digest(first, self.token):
            refusal = "The request lacks the token; use the whole address that vos-interact printed."
        else:
            return await self.app(scope, receive, _with_headers(send))
        return await _with_status(403, refusal)(scope, receive, _with_headers(send))


def _with_headers(send: Send) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [*message["headers"], *extra]
        await send(message)

    return sending


def _with_status(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status)


def application(work: Workshop, token: str, port: int) -> ASGIApp:
    """The server of one workshop, below /TOKEN/ of the loopback address at a port."""

    async def state(request: Request) -> Response:
        after, until = request.query_params.get("after", ""), time.monotonic() + WAIT
        while work.revision == after and time.monotonic() < until:
            if await request.is_disconnected():
                break
            await asyncio.sleep(0.05)
        return await _run(work)

    async def draw(request: Request) -> Response:
        stroke = read_stroke(await _body(request), len(work.video), work.objects)
        return await _run(work, work.draw, stroke)

    async def undo(request: Request) -> Response:
        name = _identifier(await _body(request))
        return await _run(work, work.undo, name)

    async def save(request: Request) -> Response:
        return await _run(work, work.save)

    def frame(request: Request) -> Response:
        return _jpeg(work.video.frame(_number(request, work)))

    def thumb(request: Request) -> Response:
        image = Image.fromarray(work.video.frame(_number(request, work)))
        size = (max(1, round(THUMB * image.width / image.height)), THUMB)
        return _jpeg(np.asarray(image.resize(size, reducing_gap=2.0)))

    def mask(request: Request) -> Response:
        return _png(work.mask(_number(request, work)))

    def page(request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    routes = [
        Route("/", page),
        Route("/state", state),
        Route("/strokes", draw, methods=["POST"]),
        Route("/undo", undo, methods=["POST"]),
        Route("/save", save, methods=["POST"]),
        Route("/frames/{t}", frame),
        Route("/thumbs/{t}", thumb),
        Route("/masks/{t}", mask),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]
    app = Starlette(routes=[Mount(f"/{token}", routes=routes)])
    app.add_exception_handler(InputError, lambda _, error: _with_status(422, str(error)))
    app.add_exception_handler(Unwritten, lambda _, error: _with_status(507, str(error)))
    app.add_exception_handler(HTTPException, _http_error)
    return Guard(app, token, port)


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _with_status(error.status_code, error.detail)


async def _run(work: Workshop, act: Callable[..., None] | None = None, *args: Any) -> Response:
    """The state after `act`, which may write a file and so runs in a thread."""
    if act is not None:
        await asyncio.to_thread(act, *args)
    return JSONResponse(await asyncio.to_thread(work.state))


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object that a request holds."""
    content = b""
    try:
        async for chunk in request.stream():
            content += chunk
            if len(content) > MOST_BYTES:
                raise HTTPException(413, f"The request is above {MOST_BYTES >> 10} KiB; draw less at once.")
        found = json.loads(content)
    except (ValueError, RecursionError, ClientDisconnect):
        found = None
    if not isinstance(found, dict):
        raise HTTPException(400, "The request holds no JSON object; send one.")
    return found


def read_stroke(content: dict[str, Any], frames: int, objects: int) -> Stroke:
    """The stroke that a request holds: `id`, `frame`, `object`, `path` as [[x, y], ...] and `seconds`.

    frames: T. objects: the highest id. Raises InputError for anything else.
    """
    t, i, seconds = (content.get(key) for key in ("frame", "object", "seconds"))
    if type(t) is not int or not 0 <= t < frames:
        raise InputError(f"stroke: frame must be a whole number from 0 to {frames - 1}; send one.")
    if type(i) is not int or not 0 <= i <= objects:
        raise InputError(f"stroke: object must be a whole number from 0 to {objects}; choose one of these.")
    path = content.get("path")
    if not isinstance(path, list) or not 1 <= len(path) <= MOST_POINTS:
        raise InputError(f"stroke: path must be a list of 1 to {MOST_POINTS} points; draw a line.")
    if not all(isinstance(p, list) and len(p) == 2 and all(_is_share(x) for x in p) for p in path):
        raise InputError("stroke: each point must be [x, y] with both in 0..1; draw inside the picture.")
    if not _is_finite(seconds) or not 0 <= seconds <= 3600:
        raise InputError("stroke: seconds must be a number in 0..3600; send how long the line took.")
    return Stroke(_identifier(content), t, Scribble(np.array(path, float), i, 0.0, float(seconds)))


def _is_finite(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and abs(value) < 2**63 and isfinite(value)


def _is_share(value: Any) -> TypeGuard[float]:
    return _is_finite(value) and 0 <= value <= 1


def _identifier(content: dict[str, Any]) -> str:
    name = content.get("id")
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_ID or not name.isascii():
        raise InputError(f"stroke: id must be a text of 1 to {LONGEST_ID} letters; send one.")
    return name


def _number(request: Request, work: Workshop) -> int:
    t = request.path_params["t"]
    if not re.fullmatch("[0-9]{1,9}", t) or int(t) >= len(work.video):
        raise HTTPException(404, f"There is no such frame; the video has {len(work.video)}, from 0 on.")
    return int(t)


def _jpeg(picture: np.ndarray) -> Response:
    """A picture that a browser shows as the network sees it, whatever the file says of orientation."""
    return _image(Image.fromarray(picture), "JPEG", quality=90)


def _png(mask: np.ndarray) -> Response:
    """Ids (h, w) uint8 in the data sets' colours, the background transparent."""
    image = Image.fromarray(mask, mode="P")
    image.putpalette(voc_palette())
    return _image(image, "PNG", compress_level=1, transparency=0)


def _image(image: Image.Image, kind: str, **options: Any) -> Response:
    held = BytesIO()
    image.save(held, kind, **options)
    return Response(held.getvalue(), media_type=f"image/{kind.lower()}")


def serve(work: Workshop, port: int | None = None, browser: bool = True) -> None:
    """Serves the page on the loopback address until it is interrupted.

    Port and token stay the same for a folder, so that a page that lost its server finds the next one.

    Args:
        work: the workshop.
        port: None for that of last time if it is free, or else any.
        browser: opens the page.

    Raises:
        InputError: the port is taken, or the folder cannot be written.
    """
    file = work.out / "address.json"
    known = read_json(file, {"port": int, "token": str}, needed=2) or {}
    token = known["token"] if TOKEN.fullmatch(known.get("token", "")) else secrets.token_urlsafe(24)
    with _listening(port or known.get("port"), port is not None) as listener:
        port = listener.getsockname()[1]
        with replacing(file) as part:
            part.touch(mode=0o600)
            part.write_text(json.dumps({"port": port, "token": token}))
        address = f"http://127.0.0.1:{port}/{token}/"
        print(f"{work.video.name}, {len(work.video)} frames: {address}  (Ctrl+C ends)", flush=True)
        config = uvicorn.Config(
            application(work, token, port),
            access_log=False,  # addresses hold the token
            log_level="error",
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        work.start()
        if browser:
            webbrowser.open(address)
        with Interruption(), closing(work):
            uvicorn.Server(config).run(sockets=[listener])


def _listening(port: int | None, must: bool) -> socket.socket:
    """A socket of the loopback address at a port, or at any free one if it need not be this."""
    for asked in [port or 0] if must else [port or 0, 0]:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", asked))
            listener.listen()
            return listener
        except OSError:
            listener.close()
    raise InputError(f"--port={port}: taken or not allowed; choose another one.")
