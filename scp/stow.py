"""The way to a destination by DICOMweb: STOW-RS to send, QIDO-RS to prove (PS3.18 Section 10)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import requests
from dicomweb_client import DICOMwebClient

from .channel import Answer, Channel, Holds, Parcel, Session
from .errors import RefusedError, UnreachableError
from .http import HttpSession
from .requestor import Context
from .settings import DestinationSettings

_SOP_CLASS_NOT_SUPPORTED = 0x0122
_DUPLICATE_INSTANCE = 0x0111
# The server, what is before it or who calls: nothing that another object would change.
_UNREACHABLE = frozenset({401, 403, 407, 408, 429, 502, 503, 504})
_SOME_FAILED = 202
_CONFLICT = 409


class StowChannel(Channel):
    """A destination that is reached by HTTP.

    Parameters
    ----------
    settings : DestinationSettings
        With a ``url``.
    """

    def __init__(self, settings: DestinationSettings) -> None:
        assert settings.url is not None, f"{settings.name} has no url"
        self._settings = settings
        self._url = settings.url.rstrip("/")

    @contextmanager
    def open(self, contexts: Sequence[Context], *, commitment: bool) -> Iterator[Session]:
        """Open an HTTP session; see `Channel.open`."""
        with self._session() as session:
            yield _StowSession(session, self._url)

    @contextmanager
    def query(self) -> Iterator[Holds]:
        """Open an HTTP session for QIDO-RS; see `Channel.query`."""
        with self._session() as session:
            client = DICOMwebClient(self._url, session=session)
            client.set_http_retry_params(retry=False)

            def holds(study: str, series: str, instance: str) -> bool:
                return _is_found(client, study, series, instance)

            yield holds

    @contextmanager
    def _session(self) -> Iterator[HttpSession]:
        with HttpSession(self._settings.timeout, self._settings.ca_file) as session:
            session.headers.update(self._authorization())
            yield session

    def _authorization(self) -> dict[str, str]:
        """Return the header with the token, which is read each time: they change."""
        if self._settings.token_file is None:
            return {}
        try:
            token = self._settings.token_file.read_text(encoding="ascii").strip()
        except OSError as error:
            raise UnreachableError(
                f"token_file {self._settings.token_file} cannot be read: {error.strerror}"
            ) from error
        except UnicodeDecodeError:
            raise UnreachableError(
                f"token_file {self._settings.token_file} holds no token"
            ) from None
        return {"Authorization": f"Bearer {token}"}


class _StowSession(Session):
    def __init__(self, session: HttpSession, url: str) -> None:
        self._session = session
        self._url = url

    @property
    def commits(self) -> bool:
        return False

    def accepts(self, context: Context) -> bool:
        return True  # nothing is negotiated: the answer to an object says it

    def store(self, parcel: Parcel) -> Answer:
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary="{boundary}"'
        answer = self._session.post(
            f"{self._url}/studies",
            data=b"".join((head, parcel.content, f"\r\n--{boundary}--\r\n".encode())),
            headers={"Content-Type": kind, "Accept": "application/dicom+json"},
        )
        return _read(answer, parcel.sop_instance_uid)

    def ask_commitment(self, transaction_uid: str, sop_class_uid: str, instance: str) -> None:
        raise RefusedError("DICOMweb has no storage commitment")

    def listen(self, seconds: float, is_over: Callable[[], bool]) -> None:
        return


def _read(answer: requests.Response, instance: str) -> Answer:
    """Read what the answer says of the instance (PS3.18 Section 10.5.3, PS3.18 Annex I.2)."""
    code = answer.status_code
    if code in _UNREACHABLE:
        raise UnreachableError(f"the destination answered {code} {answer.reason}")
    said = _instances(answer)
    if said is None:
        # A page for people, such as that of a log-in, is no answer of an archive.
        if code == 200 and "html" not in answer.headers.get("Content-Type", "").lower():
            return Answer(str(code), True)
        return Answer(str(code), False, reason=f"the destination refused the object with {code}")
    stored, failed = said
    if (reason := failed.get(instance)) is not None:
        text = f"the destination refused the object with {code}, failure reason 0x{reason:04X}"
        is_wrong_class = reason == _SOP_CLASS_NOT_SUPPORTED or reason >> 8 == 0xA9
        # What bears its UID there are the same bytes: they never change.
        is_known = reason == _DUPLICATE_INSTANCE
        return Answer(f"0x{reason:04X}", is_known, is_wrong_class, "" if is_known else text)
    if instance in stored or (code == 200 and not stored and not failed):
        return Answer(str(code), True)
    if code in (200, _SOME_FAILED, _CONFLICT):
        text = f"the destination answered {code} and does not name the object among those stored"
        return Answer(str(code), False, reason=text)
    return Answer(str(code), False, reason=f"the destination refused the object with {code}")


def _instances(answer: requests.Response) -> tuple[frozenset[str], dict[str, int]] | None:
    """Return the instances stored, and Failure Reasons of others; None if nothing is said."""
    try:
        document = answer.json()
    except requests.exceptions.JSONDecodeError:
        return None
    # Some servers send an array with one object.
    if isinstance(document, list) and len(document) == 1:
        (document,) = document
    if not isinstance(document, dict):
        return None
    stored = frozenset(_uid(item) for item in _items(document, "00081199"))
    failed = {_uid(item): _reason(item) for item in _items(document, "00081198")}
    return stored - {""}, failed


def _items(document: dict[str, object], tag: str) -> list[dict[str, object]]:
    element = document.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []


def _first(item: dict[str, object], tag: str) -> object:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _uid(item: dict[str, object]) -> str:
    return str(_first(item, "00081155") or "")


def _reason(item: dict[str, object]) -> int:
    value = _first(item, "00081197")
    return value if isinstance(value, int) else 0x0110


def _is_found(client: DICOMwebClient, study: str, series: str, instance: str) -> bool:
    try:
        found = client.search_for_instances(
            study, series, search_filters={"SOPInstanceUID": instance}
        )
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        if code in _UNREACHABLE:
            raise UnreachableError(f"the destination answered {code} to QIDO-RS") from error
        if code == 404:
            return False
        raise RefusedError(f"QIDO-RS failed with {code}", str(code)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError("QIDO-RS was answered with something else") from error
    # Nothing else of what it says is looked at: a damaged attribute is no reason to fail.
    listed: list[object] = list(found)
    return any(isinstance(one, dict) and _first(one, "00080018") == instance for one in listed)
