"""Where the direct lane may answer: by itself only where nobody could tell the difference."""

from aiohttp import web

from sockjs_aio.server import aiohttp_protocol
from sockjs_aio.server.aiohttp_internals import server_of
from sockjs_aio.server.direct.grammar import read_path
from sockjs_aio.server.responses import has_hooks
from sockjs_aio.server.service import Service, is_wrapped, service_of

MAX_PREFIXES = 100
"""The most prefixes of a service that are known here.

An application may mount its routes below a variable path, such as ``/{tenant}``.  Then clients can
ask for any number of prefixes.
"""


def may_answer(service: Service, request: web.Request) -> bool:
    """Tell whether later requests like `request`, for a session of `service`, need no aiohttp.

    `Settings.direct_requests` says how much a difference counts.
    """
    asked = service.settings.direct_requests
    if asked is False or not _is_possible(service, request):
        return False
    return asked is True or not _is_observed(request)


def may_open(service: Service, request: web.Request, prefix: str) -> bool:
    """Tell whether later handshakes like `request` for the service at `prefix` need no aiohttp.

    `Settings.direct_requests` does not matter, unless it is False: the application always sees the
    request that opens a session, if it looks at any.
    """
    handler = aiohttp_protocol.handler_of(request)
    return (
        service.settings.direct_requests is not False
        and service.relay is None
        and not service.admission.needs_request
        and not is_wrapped(request.match_info.handler)
        and aiohttp_protocol.takes(handler)
        and not _has_rival(service, request, prefix)
        and not _is_observed(request)
    )


def is_logged(service: Service, handler: aiohttp_protocol.Handler) -> bool:
    """Tell whether the access log needs to see each request on a connection."""
    return service.settings.direct_requests is None and aiohttp_protocol.logs_access(handler)


def _is_possible(service: Service, request: web.Request) -> bool:
    """Tell whether the lane could find the same answer."""
    return (
        not service.admission.is_personal  # `verify` takes a request
        and not service.settings.jsessionid
        and not is_wrapped(request.match_info.handler)
        and aiohttp_protocol.takes(aiohttp_protocol.handler_of(request))
        and not _is_rivalled(service, request)
    )


def _is_observed(request: web.Request) -> bool:
    """Tell whether something of the application, or of a monitoring tool, sees each request."""
    if has_hooks(request) or aiohttp_protocol.is_watched(server_of(request)):
        return True
    service = service_of(request.match_info.handler)
    relay = None if service is None else service.relay
    ours = None if relay is None else relay.middleware
    return any(
        aiohttp_protocol.is_patched(app) or any(each != ours for each in app.middlewares)
        for app in aiohttp_protocol.apps_of(request)
    )


def _is_rivalled(service: Service, request: web.Request) -> bool:
    target = read_path(aiohttp_protocol.path_of(aiohttp_protocol.handler_of(request)))
    return target is None or _has_rival(service, request, target.prefix)


def _has_rival(service: Service, request: web.Request, prefix: str) -> bool:
    """Tell whether another resource could get a request below `prefix` instead of `service`."""
    apps = aiohttp_protocol.apps_of(request)
    resources = (resource for app in apps for resource in app.router.resources())
    return any(map(aiohttp_protocol.has_own_way, apps)) or any(
        aiohttp_protocol.depends_on_host(resource)
        or (not _is_own(resource, service, apps) and _may_match(resource, prefix))
        for resource in resources
    )


def _is_own(
    resource: web.AbstractResource, service: Service, apps: tuple[web.Application, ...]
) -> bool:
    """Tell whether a resource leads to `service`, or to the sub-application that has it."""
    if aiohttp_protocol.leads_to(resource, apps):
        return True
    return all(service_of(route.handler) is service for route in resource)


def _may_match(resource: web.AbstractResource, prefix: str) -> bool:
    """Tell whether a resource might match the URL of a session or WebSocket below `prefix`.

    aiohttp prefers the resource whose fixed part is longer, so ``/{tail:.*}`` never does.
    """
    path = resource.canonical
    if aiohttp_protocol.has_fixed_path(resource):
        target = read_path(path)
        return (target is not None and target.prefix == prefix) or path == prefix + "/websocket"
    fixed = path.partition("{")[0]
    is_above = fixed != "/" and (prefix + "/").startswith(fixed)
    return is_above or fixed.startswith(prefix + "/")
