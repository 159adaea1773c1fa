"""The web application: REST, pages and the machine-readable description of the REST part."""

from __future__ import annotations

from importlib.metadata import version

from flask import Flask, Response, redirect, request, url_for
from flask_openapi.openapi import OpenAPI
from flask_openapi_swagger.plugins import RegisterPlugin  # type: ignore[import-untyped]
from werkzeug.wrappers import Response as BaseResponse

from orchestrator.api import bodies, callbacks, definitions, lanes, models, operations, problems, routes_workflows
from orchestrator.api.auth import authenticator, caller, may, principal
from orchestrator.api.scopes import NEEDED, OPEN
from orchestrator.errors import Unauthorized
from orchestrator.system import System
from orchestrator.ui import routes as ui
from orchestrator.ui import sign_in

POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; form-action 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'"
)
# Swagger UI starts itself with a script in its page, and styles itself from it.
SWAGGER_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
)


def create_app(system: System) -> Flask:
    """Raises SettingsError where the authentication that the settings ask for cannot be had."""
    app = OpenAPI(
        "orchestrator",
        info={"title": "Flight orchestrator", "version": version("flight-orchestrator")},
        doc_ui=False,
        static_folder=None,
        validation_error_status=400,
        validation_error_model=models.Problem,
        validation_error_callback=problems.unreadable,
        security_schemes={"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
    )
    app.openapi_version = "3.1.0"  # the library writes 3.2.0, which few tools read yet, and uses nothing of it
    app.extensions |= {"system": system.for_tenants(), "authenticator": authenticator(system.settings)}
    app.request_class = bodies.StrictRequest
    app.config["MAX_CONTENT_LENGTH"] = system.settings.max_payload + bodies.ENVELOPE
    # Templates leave out what the reader may not do, and how to sign out where nobody has signed in.
    app.jinja_env.globals |= {"may": may, "signed_in": sign_in.signed_in}
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.before_request(bodies.refuse_unstorable_address)
    app.before_request(_admit)
    app.after_request(_protect)
    problems.register(app)
    _add_routes(app)
    return app


def _add_routes(app: OpenAPI) -> None:
    for part in (routes_workflows, definitions, lanes, callbacks, operations):
        app.register_api(part.routes)
    app.register_blueprint(ui.routes)
    app.register_blueprint(sign_in.routes)
    app.register_blueprint(RegisterPlugin.register(doc_url="openapi.json"))
    app.add_url_rule("/openapi.json", "description", lambda: app.api_doc)
    app.add_url_rule("/", "front", lambda: redirect("/ui"))


def _admit() -> BaseResponse | None:
    """Before the request is read: who asks, and may they? A browser that nobody is signed in with is sent to sign in."""
    if request.endpoint is None or request.endpoint in OPEN:
        return None
    try:
        scope = NEEDED.get(request.endpoint)
        _ = caller(scope) if scope else principal()
    except Unauthorized:
        if request.method == "GET" and request.endpoint.startswith("ui.") and problems.is_page():
            return redirect(url_for("sign_in.page", next=request.full_path.rstrip("?")), 303)
        raise
    return None


def _protect(response: Response) -> BaseResponse:
    swagger = request.blueprint == "swagger"
    response.headers["Content-Security-Policy"] = SWAGGER_POLICY if swagger else POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"  # a callback link has its token in the URL
    if not (request.endpoint or "").endswith(".static"):
        response.headers["Cache-Control"] = "no-store"
    return response
