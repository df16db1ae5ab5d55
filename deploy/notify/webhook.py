"""A webhook: one JSON document by HTTP POST.

The document (``"version": 1``) is UTF-8. Keys may be added within a version, none is removed or
changes its meaning:

- ``event``: ``analysis.done``, ``analysis.not_analysed``, ``analysis.failed`` or ``test``;
- ``id``: of this notification, the same at every attempt, also in the header ``Idempotency-Key``;
- ``analysis_id``, ``analysis_version`` (1, then 2, 3 ...), ``predecessor_id`` (the analysis that
  this one replaces, or null), ``priority`` (stat, routine), ``reason_code`` (why there are no
  findings, or null), ``trace_id`` (as in the log of the node);
- ``study_instance_uid``, ``series_instance_uid``, ``sr_sop_instance_uid`` (the structured report,
  which may still be on its way to the PACS; null without one);
- ``model``: ``name`` and ``version``;
- ``findings``: ``label``, ``code`` (``value``, ``scheme``, ``meaning``), ``presence`` (Present,
  Undetermined, Absent) and ``probability`` (0 to 1) of each finding of the analysis, chosen or not;
- ``received_at``, ``finished_at``: ISO 8601 in UTC;
- ``notice``: what a reader must know of every result;
- ``patient``, only with ``include_patient``: ``id``, ``issuer``, ``name`` (its DICOM groups),
  ``birth_date``, ``sex`` and ``accession_number``, as strings or null.

Any status of 200 to 299 is acceptance; everything else, a redirect too, is tried again.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any
from urllib.parse import urlsplit

from ..errors import NotifyError
from .message import UNVERIFIED, Message
from .settings import NotifySettings

VERSION = 1
SIGNATURE_HEADER = "X-Preread-Signature"
_ENOUGH_OF_AN_ANSWER = 4096


def body_of(message: Message, *, include_patient: bool) -> bytes:
    """Return the document, byte for byte the same at every attempt."""
    told = message.told
    document: dict[str, Any] = {
        "version": VERSION,
        "event": "test" if message.is_test else f"analysis.{told.state}",
        "id": message.identifier,
        "notice": UNVERIFIED,
        "analysis_id": told.analysis_id,
        "analysis_version": told.version,
        "predecessor_id": told.predecessor_id,
        "priority": told.priority,
        "reason_code": told.reason_code,
        "trace_id": told.trace_id,
        "study_instance_uid": told.study_instance_uid,
        "series_instance_uid": told.series_instance_uid,
        "sr_sop_instance_uid": told.sr_sop_instance_uid,
        "model": {"name": told.model_name, "version": told.model_version},
        "findings": [
            {
                "label": one.label,
                "code": {
                    "value": one.code_value,
                    "scheme": one.code_scheme,
                    "meaning": one.code_meaning,
                },
                "presence": one.presence,
                "probability": one.probability,
            }
            for one in told.findings
        ],
        "received_at": told.received_at.isoformat(),
        "finished_at": told.finished_at.isoformat(),
    }
    if include_patient:
        document["patient"] = _patient(message)
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def _patient(message: Message) -> dict[str, str | None]:
    told = message.told
    corrected = told.issuer_of_patient_id
    return {
        "id": told.patient_id,
        "issuer": (message.order.issuer.local if corrected is None else corrected) or None,
        "name": told.patient_name,
        "birth_date": told.patient_birth_date,
        "sex": told.patient_sex,
        "accession_number": told.accession_number,
    }


def signature(secret: bytes, body: bytes) -> str:
    """Return what the signature header says of a body."""
    return f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}"


class Webhook:
    """Posts to one target.

    Parameters
    ----------
    settings : NotifySettings
        Of kind webhook.
    """

    def __init__(self, settings: NotifySettings) -> None:
        self._settings = settings
        self._url = urlsplit(settings.url or "")

    def send(self, message: Message) -> str:
        """POST the document, and return the HTTP status that accepted it.

        Raises
        ------
        NotifyError
            If it was not accepted, as far as is known.
        """
        body = body_of(message, include_patient=self._settings.include_patient)
        headers = self._headers(message, body)
        connection = self._connection()
        try:
            with _bounded(connection, self._settings.timeout) as ran_out:
                try:
                    connection.connect()
                    # Had the time run out before, there would have been nothing to shut down.
                    if ran_out.is_set():
                        raise TimeoutError
                    connection.request("POST", self._path(), body, headers)
                    answer = connection.getresponse()
                    answer.read(_ENOUGH_OF_AN_ANSWER)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    raise NotifyError(_why(error, ran_out.is_set(), self._settings)) from None
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise NotifyError(f"the webhook answered {_named(answer.status)}",
                              status=str(answer.status))  # fmt: skip
        return str(answer.status)

    def _headers(self, message: Message, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Idempotency-Key": message.identifier,
            "User-Agent": "Preread",
        }
        if self._settings.token_file is not None:
            token = _secret(self._settings, "token_file", self._settings.token_file)
            headers["Authorization"] = f"Bearer {token}"
        if self._settings.secret_file is not None:
            secret = _secret(self._settings, "secret_file", self._settings.secret_file)
            headers[SIGNATURE_HEADER] = signature(secret.encode(), body)
        return headers

    def _connection(self) -> http.client.HTTPConnection:
        host, timeout = self._url.hostname or "", self._settings.timeout
        if self._url.scheme == "http":
            return http.client.HTTPConnection(host, self._url.port, timeout=timeout)
        context = client_context(self._settings)
        return http.client.HTTPSConnection(host, self._url.port, timeout=timeout, context=context)

    def _path(self) -> str:
        path = self._url.path or "/"
        return f"{path}?{self._url.query}" if self._url.query else path


def client_context(settings: NotifySettings) -> ssl.SSLContext:
    """Return the context with which a target's certificate is checked.

    Raises
    ------
    NotifyError
        If `ca_file` cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError) as error:
        raise NotifyError(
            f"ca_file {settings.ca_file} cannot be used: {type(error).__name__}"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@contextmanager
def _bounded(connection: http.client.HTTPConnection, seconds: float) -> Iterator[threading.Event]:
    """Shut the connection down if the block takes longer; the event says that it did.

    The time-out of a socket bounds each read and write. A peer that sends one byte now and then
    would keep a thread for ever.
    """
    ran_out = threading.Event()

    def shut_down() -> None:
        ran_out.set()
        if connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(SHUT_RDWR)

    timer = threading.Timer(seconds, shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield ran_out
    finally:
        timer.cancel()


def _secret(settings: NotifySettings, key: str, path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NotifyError(f"{key} {path} cannot be read: {type(error).__name__}") from None
    if not text or not text.isprintable() or not text.isascii():
        raise NotifyError(f"{key} {path} of {settings.name} holds no line of ASCII characters")
    return text


def _why(error: Exception, ran_out: bool, settings: NotifySettings) -> str:
    if ran_out or isinstance(error, TimeoutError):
        return f"no answer within {settings.timeout:g} s"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or type(error).__name__}"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be reached: {error.strerror}"
    return f"no proper answer: {type(error).__name__}"


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
