"""Where the direct lane may answer: by itself only where nobody could tell the difference."""

import types
from collections.abc import Iterator

from aiohttp import web
from aiohttp.web_urldispatcher import (
    AbstractResource,
    MatchedSubAppResource,
    PlainResource,
    PrefixedSubAppResource,
)

from sockjs_aio.server import aiohttp_protocol
from sockjs_aio.server.direct_grammar import read_path
from sockjs_aio.server.responses import has_hooks
from sockjs_aio.server.service import Service, is_wrapped, service_of


def may_answer(service: Service, request: web.Request) -> bool:
    """Tell whether later requests like `request`, for a session of `service`, need no aiohttp.

    `Settings.direct_requests` says how much a difference counts.
    """
    asked = service.settings.direct_requests
    if asked is False or not _is_possible(service, request):
        return False
    return asked is True or not _is_observed(request)


def is_logged(service: Service, request: web.Request) -> bool:
    """Tell whether the access log needs to see each request on the connection of `request`."""
    asked = service.settings.direct_requests
    return asked is None and aiohttp_protocol.logs_access(request.protocol)


def _is_possible(service: Service, request: web.Request) -> bool:
    """Tell whether the lane could find the same answer."""
    return (
        service.relay is None
        and not service.admission.is_personal  # `verify` takes a request
        and not service.settings.jsessionid
        and not is_wrapped(request.match_info.handler)
        and aiohttp_protocol.takes(request.protocol)
        and not any(_rivals(service, request))
    )


def _is_observed(request: web.Request) -> bool:
    """Tell whether something of the application, or of a monitoring tool, sees each request."""
    return (
        any(app.middlewares for app in request.match_info.apps)
        or has_hooks(request)
        or any(_is_patched(app) for app in request.match_info.apps)
    )


def _is_patched(app: web.Application) -> bool:
    """Tell whether a subclass or a tool has replaced the method through which requests come."""
    handle = type(app)._handle
    own = isinstance(handle, types.FunctionType) and handle.__code__.co_filename
    return not own or not own.endswith("web_app.py")


def _rivals(service: Service, request: web.Request) -> Iterator[object]:
    """Find resources that could get a request for a session instead of `service`."""
    target = read_path(aiohttp_protocol.path_of(request.protocol))
    if target is None:
        yield request
        return
    apps = request.match_info.apps
    for resource in (resource for app in apps for resource in app.router.resources()):
        if isinstance(resource, MatchedSubAppResource):
            yield resource  # it depends on the Host
        elif _leads_to(resource, service, apps):
            continue
        elif isinstance(resource, PlainResource):
            other = read_path(resource.canonical)
            if other is not None and other.prefix == target.prefix:
                yield resource
        elif _is_near(resource.canonical, target.prefix):
            yield resource


def _leads_to(
    resource: AbstractResource, service: Service, apps: tuple[web.Application, ...]
) -> bool:
    if isinstance(resource, PrefixedSubAppResource):
        return resource._app in apps
    return all(service_of(route.handler) is service for route in resource)


def _is_near(canonical: str, prefix: str) -> bool:
    """Tell whether a resource with variable parts might match a URL below `prefix`.

    aiohttp prefers the resource whose fixed part is longer, so ``/{tail:.*}`` is no rival.
    """
    fixed = canonical.partition("{")[0]
    is_above = fixed != "/" and (prefix + "/").startswith(fixed)
    return is_above or fixed.startswith(prefix + "/")
