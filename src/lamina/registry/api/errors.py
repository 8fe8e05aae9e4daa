"""The wire form of errors: one total table from lamina's errors to the protocol's codes (R14)."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from lamina import errors as kinds
from lamina.errors import LaminaError
from lamina.registry import errors
from lamina.registry.metadata.failures import DamagedMetadata
from lamina.spec.digest import InvalidDigest
from lamina.spec.distribution import Code, WireError, encode_errors
from lamina.store.backends.driver import UploadBusy
from lamina.store.files import StoreFull

#: Concrete errors first, then every kind, so that `answer_for` always finds one. The
#: status stands beside the code, because the protocol has no codes for 408, 409 and 413.
TABLE: Final[tuple[tuple[type[LaminaError], Code, int], ...]] = (
    (errors.NameInvalid, Code.NAME_INVALID, 400),
    (errors.TagInvalid, Code.TAG_INVALID, 400),
    (InvalidDigest, Code.DIGEST_INVALID, 400),
    (errors.PageInvalid, Code.PAGINATION_NUMBER_INVALID, 400),
    (errors.ManifestInvalid, Code.MANIFEST_INVALID, 400),
    (errors.SizeMismatch, Code.SIZE_INVALID, 400),
    (errors.DigestMismatch, Code.DIGEST_INVALID, 400),
    (errors.UploadInvalid, Code.BLOB_UPLOAD_INVALID, 400),
    (errors.NameUnknown, Code.NAME_UNKNOWN, 404),
    (errors.BlobUnknown, Code.BLOB_UNKNOWN, 404),
    (errors.ManifestUnknown, Code.MANIFEST_UNKNOWN, 404),
    (errors.ManifestBlobUnknown, Code.MANIFEST_BLOB_UNKNOWN, 404),
    (errors.UploadUnknown, Code.BLOB_UPLOAD_UNKNOWN, 404),
    (errors.DamagedContent, Code.BLOB_UNKNOWN, 404),
    (errors.UploadOutOfOrder, Code.RANGE_INVALID, 416),
    (errors.RangeUnsatisfiable, Code.RANGE_INVALID, 416),
    (errors.TooManyUploads, Code.TOOMANYREQUESTS, 429),
    (UploadBusy, Code.TOOMANYREQUESTS, 429),
    (errors.ManifestTooLarge, Code.MANIFEST_INVALID, 413),
    (errors.BlobTooLarge, Code.BLOB_UPLOAD_INVALID, 413),
    (errors.SlowClient, Code.BLOB_UPLOAD_INVALID, 408),
    (StoreFull, Code.UNAVAILABLE, 507),
    (DamagedMetadata, Code.UNKNOWN, 500),
    (kinds.NotFound, Code.NAME_UNKNOWN, 404),
    (kinds.AlreadyExists, Code.UNSUPPORTED, 409),
    (kinds.Invalid, Code.NAME_INVALID, 400),
    (kinds.Integrity, Code.DIGEST_INVALID, 400),
    (kinds.Unauthorized, Code.UNAUTHORIZED, 401),
    (kinds.Denied, Code.DENIED, 403),
    (kinds.Unsupported, Code.UNSUPPORTED, 405),
    (kinds.Conflict, Code.UNSUPPORTED, 409),
    (kinds.Unavailable, Code.UNAVAILABLE, 503),
    (kinds.LimitExceeded, Code.TOOMANYREQUESTS, 429),
    (kinds.Cancelled, Code.UNAVAILABLE, 503),
    (kinds.Internal, Code.UNKNOWN, 500),
    (LaminaError, Code.UNKNOWN, 500),
)

#: What a client may know of a server's trouble. 507 (RFC 4918, section 11.5), not 503: no client waits for it to pass.
_OUTSIDE: Final = {507: "no space left on the registry"}


def answer_for(error: LaminaError) -> tuple[Code, int]:
    """The code and the status of an error."""
    return next((code, status) for kind, code, status in TABLE if isinstance(error, kind))


def error_response(error: LaminaError) -> web.Response:
    """The answer to a request that failed on purpose. Server faults say nothing of the inside."""
    code, status = answer_for(error)
    message = error.message if status < 500 else _OUTSIDE.get(status, code.description)
    response = failure(code, message, status=status, detail=_detail(error))
    match error:
        case errors.UploadOutOfOrder():
            response.headers["Range"] = f"0-{max(0, error.offset - 1)}"
        case errors.RangeUnsatisfiable():
            response.headers["Content-Range"] = f"bytes */{error.size}"
        case errors.SlowClient():
            response.force_close()
        case errors.MethodNotAllowed():
            response.headers["Allow"] = ", ".join(error.allowed)
        case _ if status in {429, 503}:
            response.headers["Retry-After"] = "1"
    return response


def failure(code: Code, message: str = "", *, status: int = 0, detail: Any = None) -> web.Response:
    """An error answer with one entry."""
    body = encode_errors([WireError(code.name, message or code.description, detail)])
    return web.Response(status=status or code.status, body=body, content_type="application/json")


def _detail(error: LaminaError) -> Any:
    match error:
        case errors.ManifestBlobUnknown():
            return [{"digest": str(digest)} for digest in error.missing[:100]]
        case errors.BlobUnknown():
            return {"digest": str(error.digest)}
        case errors.ManifestUnknown():
            return {"name": error.repository, "reference": error.reference}
        case errors.NameUnknown():
            return {"name": error.name}
        case _:
            return None
