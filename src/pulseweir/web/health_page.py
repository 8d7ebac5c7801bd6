"""Steps 15-17: whether this process lives, and whether it can show anything."""

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from pulseweir.backends.repository import RepositoryUnavailable, changes
from pulseweir.web.screens import screens_of

_LONGEST_DELAY_SECONDS = 10.0


async def live(_request: Request) -> Response:
    """The process answers."""
    return PlainTextResponse("ok\n")


async def ready(request: Request) -> Response:
    """The repository answers and the board follows it."""
    screens = screens_of(request)
    try:
        await screens.repository.read(changes.latest)
        repository = "ok"
    except RepositoryUnavailable:
        repository = "unavailable"
    board = "ok" if screens.board.delay_seconds < _LONGEST_DELAY_SECONDS else "delayed"
    is_ready = repository == board == "ok"
    return JSONResponse({"repository": repository, "board": board}, status_code=200 if is_ready else 503)
