"""The admin API as an ASGI application: Starlette finds the operation; this decides who may, reads what was sent, and answers.

The only module that imports Starlette.  `AdminApp` imports it with the first request to `/admin/`, so that a gateway which
nobody administers over the network never pays for it.  Operations run in a few threads of their own, off the event loop: they
wait for databases.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from tollhouse.config.schema import AdminSettings, AdminTokenSettings
from tollhouse.errors import BodyTooLarge, ClientLeft, MethodNotAllowed, NotFound, Overloaded, TollhouseError
from tollhouse.ledger.audit import entry
from tollhouse.policy.identity import wall_us
from tollhouse.server.admin.access import Admins, bearer, check_role
from tollhouse.server.admin.office import Office
from tollhouse.server.admin.openapi import document
from tollhouse.server.admin.operation import Asked, Nothing, Operation, read_body, read_place, read_query
from tollhouse.server.admin.operations import OPERATIONS
from tollhouse.server.admin.problem import CONTENT_TYPE, Problem, Refusal, headers_of, problem_of
from tollhouse.server.http.asgi import Receive, Scope, Send
from tollhouse.server.http.bodies import read_body as read_bytes
from tollhouse.telemetry import logs

MAX_BODY_BYTES: Final = 64 * 1024
THREADS: Final = 4
MAX_IN_FLIGHT: Final = 32
"""Requests that are answered or wait for a thread; more are refused."""
OPENAPI_PATH: Final = "/admin/v1/openapi.json"

log = logs.get("admin")


class Api:
    """Answers what is below `/admin/`.  Belongs to one event loop; `close` it when nothing is under way any more."""

    def __init__(self, office: Office) -> None:
        self.office: Final = office
        self._settings = AdminSettings()
        self._admins = Admins(())
        self._in_flight = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="tollhouse-admin")
        by_path: dict[str, dict[str, Operation[Any, Any]]] = {}
        for operation in (_OPENAPI, *OPERATIONS):
            by_path.setdefault(operation.path, {})[operation.method] = operation
        self._router = Router(
            [Route(path, _Place(self, methods)) for path, methods in by_path.items()],
            redirect_slashes=False,
            default=_Place(self, {}),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, whose id stands in the scope as `tollhouse.request_id`."""
        await self._router(scope, receive, send)

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def admins(self) -> Admins:
        """Those of the configuration that serves now."""
        settings = self.office.config().admin
        if settings is not self._settings:
            self._settings, self._admins = settings, Admins(settings.tokens)
        return self._admins

    async def answer(self, operation: Operation[Any, Any], request: Request) -> Response:
        """Does what is asked.  Raises `Refusal` and `TollhouseError`."""
        token = self._let_in(operation, request)
        if self._in_flight >= MAX_IN_FLIGHT:
            raise Overloaded(f"{MAX_IN_FLIGHT} admin requests are under way.", hint="Try again in a moment.")
        self._in_flight += 1
        try:
            asked = Asked(
                office=self.office,
                actor="" if token is None else token.name,
                address=_address(request),
                request_id=_request_id(request),
                path={name: read_place(request.path_params[name]) for name in operation.places},
                query=read_query(operation.query, request.query_params.multi_items()),
                body=read_body(operation.body, await _body(request)),
            )
            done = await self.office.loop.run_in_executor(self._threads, partial(operation.work, asked))
        finally:
            self._in_flight -= 1
        data = b"" if operation.answer is None else msgspec.json.encode(done)
        return _response(operation.status, data, "application/json", _request_id(request))

    def _let_in(self, operation: Operation[Any, Any], request: Request) -> AdminTokenSettings | None:
        """Whose request it is.  Whoever is not let in stands in the audit log."""
        if operation.role is None:
            return None
        address, request_id = _address(request), _request_id(request)
        try:
            token = self.admins.identify(bearer(request.scope["headers"]))
        except Refusal as refusal:
            if not self.admins.is_empty:
                self.office.trail.fail(address=address, code=refusal.code, door="admin", request_id=request_id)
            raise
        try:
            check_role(token, operation.role)
        except Refusal as refusal:
            self.office.trail.record(
                entry(
                    at_us=wall_us(),
                    actor=token.name,
                    action="admin.refuse",
                    object=f"{operation.method} {request.url.path}",
                    changes={"code": refusal.code},
                    address=address,
                    outcome="refused",
                    request_id=request_id,
                )
            )
            raise
        return token


class _Place:
    """One path, with what may be done there."""

    def __init__(self, api: Api, operations: Mapping[str, Operation[Any, Any]]) -> None:
        self._api = api
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._response(request)
        if response is not None:
            await response(scope, receive, send)

    async def _response(self, request: Request) -> Response | None:
        request_id = _request_id(request)
        try:
            return await self._api.answer(self._operation(request), request)
        except ClientLeft:
            return None  # nobody is there to be told
        except Refusal as refusal:
            return _refused(refusal.problem(request_id), refusal.headers)
        except TollhouseError as error:
            if error.http_status >= 500:
                log.warning("an admin request failed", extra={"request_id": request_id, "code": error.code})
            return _refused(problem_of(error, request_id), headers_of(error))
        except Exception:
            log.exception("an admin request failed by our own fault", extra={"request_id": request_id})
            return _refused(
                Refusal(
                    500, "internal_error", "Something went wrong inside the gateway.", hint="Its log has the details."
                ).problem(request_id)
            )

    def _operation(self, request: Request) -> Operation[Any, Any]:
        if not self._operations:
            raise NotFound("There is nothing here.", hint=f"{OPENAPI_PATH} describes what is there.")
        method = "GET" if request.method == "HEAD" else request.method
        operation = self._operations.get(method)
        if operation is None:
            raise MethodNotAllowed(request.method, allowed=sorted(self._operations))
        return operation


async def _body(request: Request) -> bytes:
    """The whole body, bounded.  Raises `Refusal` and `TollhouseError`."""
    try:
        data = await read_bytes(request.receive, request.scope["headers"], MAX_BODY_BYTES)
    except BodyTooLarge as error:
        raise Refusal(
            error.http_status, error.code, f"The body is larger than {MAX_BODY_BYTES // 1024} KiB.", hint="Send less."
        ) from error
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if data and kind != "application/json":
        # A page of another site can send other types without asking us first.
        raise Refusal(
            415,
            "unsupported_media_type",
            "Bodies are JSON here.",
            hint="Send it with `Content-Type: application/json`.",
        )
    return data


def _response(
    status: int, data: bytes, media_type: str, request_id: str, headers: Sequence[tuple[str, str]] = ()
) -> Response:
    return Response(
        data,
        status,
        {
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "x-request-id": request_id,
            **dict(headers),
        },
        media_type if data else None,
    )


def _refused(problem: Problem, headers: Sequence[tuple[str, str]] = ()) -> Response:
    return _response(problem.status, msgspec.json.encode(problem), CONTENT_TYPE, problem.request_id, headers)


def _request_id(request: Request) -> str:
    found: str = request.scope["tollhouse.request_id"]
    return found


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _describe(asked: Asked[Nothing, Nothing]) -> object:
    del asked
    return document((_OPENAPI, *OPERATIONS))


_OPENAPI: Final = Operation(
    id="describe",
    method="GET",
    path=OPENAPI_PATH,
    role=None,
    summary="This description",
    tag="system",
    query=Nothing,
    body=Nothing,
    answer=dict[str, Any],
    work=_describe,
)
